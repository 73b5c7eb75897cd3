"""Chat templates that `--chat-template` knows by name. No torch.

All of them mark what the assistant says with `{% generation %}`, its end-of-turn token included, and none changes an
earlier turn when others follow. A tool that a template has no form for is refused by it.
"""

from __future__ import annotations

from typing import NamedTuple


class BuiltInTemplate(NamedTuple):
    """A named template and the tokens that its turns are made of."""

    source: str
    needs: tuple[str, ...]
    """Tokens that a tokenizer must have, each as one token."""


_NO_TOOLS = """\
{%- if tools %}{{ raise_exception('it has no form for tools') }}{% endif %}
{%- for message in messages if message['role'] == 'tool' or message['tool_calls'] %}
{{- raise_exception('it has no form for calls of tools') }}
{%- endfor %}
"""

_CHATML = """\
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages and messages[0]['role'] == 'system' %}{{- messages[0]['content'] + '\n\n' }}{% endif %}
    {{- '# Tools\n\nThese functions can be called:\n<tools>' }}
    {%- for tool in tools %}{{- '\n' }}{{- tool | tojson }}{% endfor %}
    {{- '\n</tools>\nA call is JSON between <tool_call> and </tool_call>: ' }}
    {{- '{"name": "…", "arguments": {…}}<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- '<|im_start|>assistant\n' }}
        {%- generation %}
            {{- message['content'] }}
            {%- for call in message['tool_calls'] %}
                {%- if message['content'] or not loop.first %}{{- '\n' }}{% endif %}
                {{- '<tool_call>\n{"name": ' }}{{- call['function']['name'] | tojson }}
                {{- ', "arguments": ' }}{{- call['function']['arguments'] | tojson }}{{- '}\n</tool_call>' }}
            {%- endfor %}
            {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\n' }}
    {%- elif not (tools and loop.first and message['role'] == 'system') %}
        {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}
"""

_LLAMA3 = """\
{{- bos_token or '' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}{{- message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}
    {%- else %}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}
"""

_GEMMA = """\
{{- bos_token or '' }}
{%- set given = namespace(system='') %}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {%- if not loop.first %}{{ raise_exception('a system message can only be the first one') }}{% endif %}
        {%- set given.system = message['content'] | trim + '\n\n' %}
    {%- elif message['role'] == 'assistant' %}
        {{- '<start_of_turn>model\n' }}
        {%- generation %}{{- message['content'] | trim + '<end_of_turn>' }}{% endgeneration %}
        {{- '\n' }}
    {%- else %}
        {{- '<start_of_turn>user\n' + given.system + message['content'] | trim + '<end_of_turn>\n' }}
        {%- set given.system = '' %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{% endif %}
"""

_ZEPHYR = """\
{%- for message in messages %}
    {{- '<|' + message['role'] + '|>\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}{{- message['content'] + eos_token }}{% endgeneration %}
    {%- else %}
        {{- message['content'] + eos_token }}
    {%- endif %}
    {{- '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{% endif %}
"""

# The space before an answer is the assistant's: most tokenizers make one token of it and the first word.
_PLAIN = """\
{{- bos_token or '' }}
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- 'Assistant:' }}
        {%- generation %}{{- ' ' + message['content'] + eos_token }}{% endgeneration %}
        {{- '\n' }}
    {%- else %}
        {{- message['role'] | capitalize + ': ' + message['content'] + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{% endif %}
"""

BUILT_IN: dict[str, BuiltInTemplate] = {
    "chatml": BuiltInTemplate(_CHATML, ("<|im_start|>", "<|im_end|>")),
    "llama3": BuiltInTemplate(_NO_TOOLS + _LLAMA3, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    "gemma": BuiltInTemplate(_NO_TOOLS + _GEMMA, ("<start_of_turn>", "<end_of_turn>")),
    "zephyr": BuiltInTemplate(_NO_TOOLS + _ZEPHYR, ()),
    "plain": BuiltInTemplate(_NO_TOOLS + _PLAIN, ()),
}
"""Templates by name. Those without tokens of their own end a turn by the tokenizer's end-of-sequence token."""
