"""A region: its sizes of machines, and how many cores of each family a subscription may use."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.azure.stand_in.exchange import Reply, Request
from tests.azure.stand_in.routes import Routes

if TYPE_CHECKING:
    from tests.azure.stand_in.world import Document, World

ROUTES = Routes()
LOCATION = (
    r"/subscriptions/(?P<subscription>[^/]+)/providers/Microsoft\.MachineLearningServices/locations/(?P<region>[^/]+)"
)
RETIRED = re.compile(r"standard_nc\d+s?r?(_v2|_v3)?|standard_nd\d+rs(_v2)?|standard_nv\d+", re.IGNORECASE)


def size(
    name: str,
    family: str,
    vcpus: int,
    gpus: int,
    memory_gb: float,
    *,
    low_priority: bool = True,
    computes: tuple[str, ...] = ("AmlCompute", "ComputeInstance"),
) -> Document:
    """A size of machines as the region lists it."""
    return {
        "name": name,
        "family": family,
        "vCPUs": vcpus,
        "gpus": gpus,
        "osVhdSizeMB": 1047552,
        "maxResourceVolumeMB": 65536,
        "memoryGB": memory_gb,
        "lowPriorityCapable": low_priority,
        "premiumIO": True,
        "supportedComputeTypes": list(computes),
        "estimatedVMPrices": {"billingCurrency": "USD", "unitOfMeasure": "OneHour", "values": []},
    }


SIZES = (
    size("Standard_DS3_v2", "standardDSv2Family", 4, 0, 14),
    size("Standard_D4s_v5", "standardDSv5Family", 4, 0, 16),
    size("Standard_E4s_v3", "standardESv3Family", 4, 0, 32),
    size("Standard_F4s_v2", "standardFSv2Family", 4, 0, 8, computes=("ComputeInstance",)),
    size("Standard_NC4as_T4_v3", "Standard NCASv3_T4 Family", 4, 1, 28),
    size("Standard_NC64as_T4_v3", "Standard NCASv3_T4 Family", 64, 4, 440),
    size("Standard_NC24ads_A100_v4", "StandardNCADSA100v4Family", 24, 1, 220),
    size("Standard_NC48ads_A100_v4", "StandardNCADSA100v4Family", 48, 2, 440),
    size("Standard_NC96ads_A100_v4", "StandardNCADSA100v4Family", 96, 4, 880),
    size("Standard_NC40ads_H100_v5", "StandardNCadsH100v5Family", 40, 1, 320),
    size("Standard_NC80adis_H100_v5", "StandardNCadsH100v5Family", 80, 2, 640),
    size("Standard_ND96isr_H100_v5", "standardNDSH100v5Family", 96, 8, 1900, low_priority=False),
    size("Standard_ND96isr_H200_v5", "standardNDISRH200V5Family", 96, 8, 1850, low_priority=False),
)
QUOTA = {
    "standardDSv2Family": 24,
    "standardDSv5Family": 24,
    "standardESv3Family": 24,
    "standardFSv2Family": 24,
    "Standard NCASv3_T4 Family": 64,
    "StandardNCADSA100v4Family": 96,
    "StandardNCadsH100v5Family": 80,
    "standardNDSH100v5Family": 0,
    "standardNDISRH200V5Family": 0,
}
TOTAL_DEDICATED, TOTAL_LOW_PRIORITY = "TotalDedicatedCores", "TotalLowPriorityCores"


@ROUTES.on("GET", LOCATION + "/vmSizes")
def sizes(world: World, request: Request, subscription: str, region: str) -> Reply:
    """Sizes of a region."""
    world.check_subscription(subscription)
    return Reply(document={"value": list(world.sizes.values())})


@ROUTES.on("GET", LOCATION + "/usages")
def usages(world: World, request: Request, subscription: str, region: str) -> Reply:
    """Cores of each family: how many are used, and how many may be; -1: only the total limits."""
    world.check_subscription(subscription)
    base = f"/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{region}"
    kind = "Microsoft.MachineLearningServices"

    def row(where: str, name: str, words: str, limit: int) -> Document:
        return {
            "id": f"{base}/{where}/usages/{name}",
            "type": f"{kind}/{where}/usages",
            "unit": "Count",
            "currentValue": world.used.get(name, 0) if "lowPriorityCores" not in where else 0,
            "limit": limit,
            "name": {"value": name, "localizedValue": words},
        }

    dedicated, low = "Cluster Dedicated", "Cluster Low Priority"
    rows = [row("totalDedicatedCores", TOTAL_DEDICATED, f"Total {dedicated} Regional vCPUs", 1000)]
    rows += [row("totalLowPriorityCores", TOTAL_LOW_PRIORITY, f"Total {low} vCPUs", world.low_priority_cores)]
    for family, limit in world.quota.items():
        rows.append(row("vmFamily/dedicatedCores", family, f"{family} {dedicated} vCPUs", limit))
        rows.append(row("vmFamily/lowPriorityCores", family, f"{family} {low} vCPUs", -1))
    return Reply(document={"value": rows})
