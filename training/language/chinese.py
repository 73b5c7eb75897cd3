"""The Chinese texts, by English template. Fields stand in braces and have the same names in both languages.

`tests/training/language/test_chinese.py` finds every template in the code: none may be missing here, none left over.
As in docs/zh-CN, epoch, batch, token and rank are not translated.
"""

from __future__ import annotations

CHINESE = {
    # -- separators --
    ", ": "，",
    "; ": "；",
    # -- what a run says: training/run.py, training/record/terminal.py --
    "model   {parts}": "模型    {parts}",
    "run     {parts}": "训练    {parts}",
    "data    reading {file} ({size})": "数据    正在读取 {file}（{size}）",
    "{tokens} tokens in the vocabulary": "词表 {tokens} 个 token",
    "{directory} on {device}": "{directory}，设备 {device}",
    "{steps} steps": "共 {steps} 步",
    "{ranks} ranks sharing {samples} samples per update": "{ranks} 个 rank 分担每次更新的 {samples} 个样本",
    "path    up to {size} of weight snapshots in {directory}": "轨迹    权重快照，至多 {size}，存入 {directory}",
    "{path}: the samples could not be written ({error}); the run goes on": (
        "{path}：样本图无法写入（{error}）；训练继续"
    ),
    "average a moving average of the weights (decay {decay:g}) is validated, kept as the best and saved at the end": (
        "平均    验证、最佳检查点和最终模型都用权重的滑动平均（衰减 {decay:g}）"
    ),
    "{state} at step {step} after {seconds:.1f} s of training ({steps} steps)": (
        "{state}：第 {step} 步，训练用时 {seconds:.1f} s（{steps} 步）"
    ),
    "go on with: {command}": "继续训练：{command}",
    "the same Trainer with resume=True (run directory {path})": "同样的 Trainer，加上 resume=True（运行目录 {path}）",
    "the same command and --resume (run directory {path})": "同样的命令加上 --resume（运行目录 {path}）",
    "stop    Ctrl-C saves and ends it; go on with: {command}": "停止    按 Ctrl-C 会保存并结束；继续训练：{command}",
    "time    is measured in the first {steps} steps, and said then": "用时    先测最初 {steps} 步，随后给出",
    "best    the final model is that of step {step} (loss {loss:.4f})": (
        "最优    最终模型取自第 {step} 步（损失 {loss:.4f}）"
    ),
    "the final model is that of the last step, {step}: {why}": "最终模型取自最后一步（第 {step} 步）：{why}",
    "no epoch came to its end, and no validation loss was measured": "没有一个完整的 epoch，也没有测过验证损失",
    "the weights of the best loss, {loss:.4f}, were not kept": "最低损失 {loss:.4f} 的权重没有保留",
    "left    {names}: set aside in {branch}; --resume {branch} goes on with that branch": (
        "放下    {names}：已移到 {branch}；用 --resume {branch} 可以接着训练这个分支"
    ),
    "saved   {file} and {folder}/": "已保存  {file} 和 {folder}/",
    "saved   {folder}/": "已保存  {folder}/",
    "{model} with LoRA, {count:,} parameters": "{model}，带 LoRA，{count:,} 个参数",
    "{model}, {count:,} parameters": "{model}，{count:,} 个参数",
    "{count:,} of them trained ({share})": "其中 {count:,} 个参与训练（{share}）",
    "data    {documents:,} documents, {tokens:,} tokens in {pieces:,} pieces of up to {longest} tokens": (
        "数据    {documents:,} 篇文档，{tokens:,} 个 token，切成 {pieces:,} 段，每段最多 {longest} 个 token"
    ),
    "{count:,} documents are empty and left out": "{count:,} 篇文档是空的，已略去",
    "{count:,} tokens are unknown to the tokenizer ({share:.2%}): the model cannot read or write what they stand for": (
        "tokenizer 不认识其中 {count:,} 个 token（{share:.2%}）：它们代表的文字，模型读不了也写不出"
    ),
    "packing {samples:,} samples in {rows:,} rows of up to {capacity} tokens, {fill:.1%} full": (
        "打包    {samples:,} 个样本装进 {rows:,} 行，每行最多 {capacity} 个 token，填满 {fill:.1%}"
    ),
    "proved  packing: the loss of {count} samples in one row is that of the samples alone ({difference:.0e})": (
        "证明    打包：{count} 个样本同在一行的损失等于各自单独的损失（相差 {difference:.0e}）"
    ),
    "merge   {where} ({kind}) against the adapter: logits differ by {largest:.1e} at most, the same greedy token at "
    "{same:,} of {positions:,} positions": (
        "合并    {where}（{kind}）与适配器比较：logit 最多相差 {largest:.1e}，{positions:,} 个位置中有 {same:,} 个"
        "的贪心 token 相同"
    ),
    "{where} is not the model that was trained: its logits differ by {largest:.1e} (tolerance {tolerance:.1e}), "
    "and its greedy token at {others:,} of {positions:,} positions; use the adapter with its base": (
        "{where} 不是训练出来的那个模型：logit 相差 {largest:.1e}（容许 {tolerance:.1e}），{positions:,} 个位置中有 "
        "{others:,} 个的贪心 token 不同；请使用适配器加基座模型"
    ),
    "{where} cannot be read back: {reason}": "{where} 无法读回：{reason}",
    "data    {source}: {form}": "数据    {source}：{form}",
    "chat    {template}, loss on {loss_on}": "对话    {template}，损失算在 {loss_on} 上",
    "note    the template writes the day's date; it is always {date} here": (
        "注意    模板会写入当天日期；这里固定为 {date}"
    ),
    "mask    read by two methods, which agree in every row:": "掩码    用两种方法读出，每一行都一致：",
    "mask    every token is trained:": "掩码    每个 token 都参与训练：",
    "{count:,} rows without a trained token are left out": "{count:,} 行没有参与训练的 token，已略去",
    # -- talk with a finished model: tools/chat.py, training/tasks/answers/ --
    "stop    {ended} of {asked} answers end by themselves within {longest} tokens": (
        "结束    {asked} 个回答中有 {ended} 个在 {longest} 个 token 之内自己结束"
    ),
    "model   {model}": "模型    {model}",
    "model   reading {path}": "模型    正在读取 {path}",
    "chat    it holds a conversation; {new} begins another": "对话    它记得对话内容；{new} 开始新的对话",
    "chat    it continues the text that you type": "续写    它接着你输入的文字往下写",
    "chat    it answers each question on its own": "问答    每个问题单独回答",
    "keys    Ctrl-C ends an answer; an empty line or Ctrl-D ends the program": (
        "按键    Ctrl-C 结束当前回答；空行或 Ctrl-D 结束程序"
    ),
    "a new conversation": "新的对话",
    "the oldest turns ({count}) are left out from here on: the model reads {limit:,} tokens": (
        "从这里起略去最早的 {count} 次问答：模型只读得下 {limit:,} 个 token"
    ),
    "(cut after {count:,} tokens; --max-new-tokens sets how many)": (
        "（在 {count:,} 个 token 处截断；用 --max-new-tokens 设定上限）"
    ),
    "(cut: the model reads {limit:,} tokens, the conversation and its answer)": (
        "（截断：对话连同回答，模型只读得下 {limit:,} 个 token）"
    ),
    "sample  number {number}:": "样本    第 {number} 个：",
    "{bits:.4f} bits per byte over {size:,} bytes": "每字节 {bits:.4f} 比特，共 {size:,} 字节",
    "held back: {measured} ({share:.0%} of the data)": "留出的数据：{measured}（测了其中 {share:.0%}）",
    "  {begun} → {goes_on}": "  {begun} → {goes_on}",
    "saved {path} (step {step})": "已保存 {path}（第 {step} 步）",
    "time    about {time} more: {left:,} steps of {each}, plus validation, checkpoints": (
        "用时    大约还要 {time}：{left:,} 步，每步 {each}，验证和保存检查点另计"
    ),
    "warning: {message}": "警告：{message}",
    "resumed from {path} at step {step} of {total}": "从 {path} 续训：第 {step} 步，共 {total} 步",
    "not bit for bit as it would have gone on: {differences}": "与不中断的训练不会逐位一致：{differences}",
    "epoch {epoch}: validation loss is not finite": "epoch {epoch}：验证损失不是有限值",
    "epoch {epoch}: validation loss {loss:.4f}": "epoch {epoch}：验证损失 {loss:.4f}",
    "{name} {value}": "{name} {value}",
    "Loss": "损失",
    "PPL": "困惑度",
    "Acc": "准确率",
    "LR": "学习率",
    "FW": "前向",
    "BW": "反向",
    "data    {line}": "数据    {line}",
    "{file}: {entries:,} entries ({share:.1%}), {samples:,} samples{left_out}": (
        "{file}：{entries:,} 条（{share:.1%}），{samples:,} 个样本{left_out}"
    ),
    ", {count:,} ambiguous left out": "，去掉 {count:,} 个有歧义的",
    "{count} questions are given with several answers, the first is {first!r}; tools/diagnose_issues.py lists them": (
        "{count} 个问题有多个答案，第一个是 {first!r}；tools/diagnose_issues.py 会全部列出"
    ),
    "{count} characters have no token and are read as [UNK]": "{count} 个字符没有对应的 token，读作 [UNK]",
    "{cut} samples cut, {whole} of them whole": "截断 {cut} 个样本，其中 {whole} 个整个去掉",
    "APT {count:,} parameters ({attention} attention)": "APT，{count:,} 个参数（{attention} 注意力）",
    "{name} {count:,} parameters": "{name}，{count:,} 个参数",
    "UNet {count:,} parameters (channels {channels})": "UNet，{count:,} 个参数（通道数 {channels}）",
    "MLP {count:,} parameters ({blocks} blocks of {width} features)": (
        "MLP，{count:,} 个参数（{blocks} 个残差块，每层 {width} 个特征）"
    ),
    # -- the task diffusion --
    "noise   {kind}, {levels:,} levels, sigma from {low:.4g} to {high:.4g}; the network predicts {prediction}": (
        "噪声    {kind}，{levels:,} 个噪声级，sigma 从 {low:.4g} 到 {high:.4g}；网络预测 {prediction}"
    ),
    "the images have values from {low:.3g} to {high:.3g}, and not from -1 to 1; samples are never clipped": (
        "图像的取值在 {low:.3g} 到 {high:.3g} 之间，而不是 -1 到 1；采样从不截断"
    ),
    "the data's standard deviation is {spread:.3g}, and sigma_data is {given:g}; set --sigma-data {spread:.3g}": (
        "数据的标准差是 {spread:.3g}，而 sigma_data 是 {given:g}；请设 --sigma-data {spread:.3g}"
    ),
    "loss on {count:,} training samples: {loss:.4f}; the ideal denoiser of the {whole:,} has {least:.4f}": (
        "{count:,} 个训练样本上的损失：{loss:.4f}；全部 {whole:,} 个样本的理想去噪器为 {least:.4f}"
    ),
    "  at sigma {sigma:.3g}: {loss:.4f}, ideal {least:.4f}": "  sigma {sigma:.3g} 处：{loss:.4f}，理想值 {least:.4f}",
    "  (as many as fit into {seconds:.1f} s; --answer-samples {all} asks them all)": (
        "  （{seconds:.1f} s 之内能问的题数；加 --answer-samples {all} 可全部问一遍）"
    ),
    "answers to {asked} of {all} training questions, generated freely ({seconds:.1f} s):": (
        "自由生成 {all} 道训练题中 {asked} 道的答案（{seconds:.1f} s）："
    ),
    "examples:": "例子：",
    "  {question} → {answer}  ({verdict})": "  {question} → {answer}  （{verdict}）",
    "(nothing)": "（空）",
    "right": "对",
    "wrong, expected {answer}": "错，应为 {answer}",
    "warning: {fault}; it is passed over": "警告：{fault}；已跳过它",
    "{path}: no checkpoint yet, training starts from the beginning": "{path}：还没有检查点，从头开始训练",
    "the {schedule} schedule now ends at step {now}, it was planned to end at {planned}: the curve goes on, but "
    "differs from an uninterrupted run's": (
        "{schedule} 调度现在到第 {now} 步结束，原计划到第 {planned} 步：曲线会接着走，但与不中断的训练不同"
    ),
    "update {step} skipped: loss {loss:g}, gradient norm {norm:g}": (
        "跳过第 {step} 次更新：损失 {loss:g}，梯度范数 {norm:g}"
    ),
    "{path}: the snapshot could not be written ({error}); the run goes on, its path has a gap": (
        "{path}：无法写入快照（{error}）；训练继续，轨迹会缺一段"
    ),
    "the run is finished, but the push to {repo} failed: {reason}; push again with: {command}": (
        "训练已完成，但推送到 {repo} 失败：{reason}；重新推送：{command}"
    ),
    "pushed  {page}": "已推送  {page}",
    "ranks {first} to {last} of {all} are on this machine; rank 0's reports the run": (
        "本机运行 rank {first} 到 {last}（共 {all} 个）；由 rank 0 所在的机器报告训练"
    ),
    # -- states of a run, for tables and pictures --
    "running": "运行中",
    "starting": "启动中",
    "stalled": "停滞",
    "lost": "失联",
    "failed": "失败",
    "stopped": "已停止",
    "finished": "已完成",
    "unreadable": "无法读取",
    "stalled for {time}": "已停滞 {time}",
    "waiting for a run": "等待训练开始",
    "deleted, waiting": "已删除，等待中",
    "replay, step {step:,}": "重放，第 {step:,} 步",
    # -- words that many pictures have --
    "step": "步",
    "run": "运行",
    "runs": "运行",
    "loss": "损失",
    "epoch": "epoch",
    "{count:,} tokens": "{count:,} 个 token",
    "start": "起点",
    "now": "当前",
    "accuracy": "准确率",
    "no update yet": "还没有更新",
    "no sample yet": "还没有样本",
    "drew {count:,} samples of {model} ({sampler}, {steps:,} steps, seed {seed}): {path}": (
        "已从 {model} 采样 {count:,} 个（{sampler}，{steps:,} 步，种子 {seed}）：{path}"
    ),
    "samples": "样本",
    "step {step:,}": "第 {step:,} 步",
    "... and {count} more": "……还有 {count} 个",
    # -- the dashboard --
    "loss landscape": "损失地形",
    "loss curves": "损失曲线",
    "gradient norm": "梯度范数",
    "learning rate": "学习率",
    "trajectory": "优化轨迹",
    "batch": "batch",
    "epoch mean": "epoch 均值",
    "validation": "验证",
    "validation, now {ratio:.3g}x its lowest": "验证，已是最低值的 {ratio:.3g} 倍",
    "their validation": "它们的验证",
    "spike": "尖峰",
    "no gradient yet": "还没有梯度",
    "median": "中位数",
    "clipped {count:,}": "裁剪 {count:,}",
    "skipped {count:,}": "跳过 {count:,}",
    "spiking {count:,}": "尖峰 {count:,}",
    "warm restarts {count}": "热重启 {count}",
    "acc": "准确率",
    "tok/s": "token/秒",
    "samples/s": "样本/秒",
    "RAM": "内存峰值",
    "GPU mem": "显存峰值",
    "memory": "内存",
    "FW/BW": "前/反向",
    "took": "历时",
    "ETA": "剩余",
    "device": "设备",
    "backend": "后端",
    "params": "参数",
    "random 1": "随机方向 1",
    "random 2": "随机方向 2",
    "PC1 ({share:.1%})": "主方向 1（{share:.1%}）",
    "PC2 ({share:.1%})": "主方向 2（{share:.1%}）",
    "plane: two random directions, filter-normalised": "平面：两个随机方向（滤波器归一化）",
    "plane: PCA of the path, explains {share:.1%} of it": "平面：路径主成分，解释 {share:.1%}",
    "centre: step {step:,}, loss {loss} on {tokens:,} tokens; {points:,} points in {time}": (
        "中心：第 {step:,} 步，{tokens:,} 个 token 上的损失 {loss}；{points:,} 个点，用时 {time}"
    ),
    "{count} not finite, cut off": "{count} 个点不是有限值，已截平",
    "no snapshot of the run up to here: no path (snapshots: 64 keeps some)": (
        "到此为止没有权重快照，画不出路径（设置 snapshots: 64 可保留）"
    ),
    "step {step:,}{behind}: true loss {loss}, the plane's {plane_loss}, distance {distance:.2g}": (
        "第 {step:,} 步{behind}：真实损失 {loss}，平面上 {plane_loss}，距离 {distance:.2g}"
    ),
    ", the run is at {step:,}": "（训练已到第 {step:,} 步）",
    "at most {distance:.2g} (step {step:,})": "最大 {distance:.2g}（第 {step:,} 步）",
    "no path yet": "还没有路径",
    "it needs weight snapshots": "需要权重快照",
    "and the measured landscape": "和实测的损失地形",
    "off plane {now:.2g}, at most {most:.2g}": "离平面 {now:.2g}，最大 {most:.2g}",
    "not measured yet": "还没有测量",
    "measures it from checkpoint and snapshots (snapshots: 64)": "用检查点和权重快照（snapshots: 64）测量",
    "no loss is finite": "没有有限的损失",
    "at none of the {count} points that were measured": "测过的 {count} 个点上都没有",
    "being measured": "正在测量",
    "{done} of the first {count} points": "首批 {count} 个点中的 {done} 个",
    "true loss": "真实损失",
    "path on the plane": "平面上的路径",
    # -- the monitor --
    "all trainings": "全部训练",
    "{count} {state}": "{count} 个{state}",
    "state": "状态",
    "progress": "进度",
    "best": "最优",
    "smp/s": "样本/秒",
    "per s": "每秒",
    "leaderboard": "排行榜",
    "no two runs can be compared": "没有两次可以相互比较的训练",
    "loss: thin training, dots validation": "损失曲线：细线为训练，点为验证",
    "{ratio:.3g}x its lowest": "最低值的 {ratio:.3g} 倍",
    "at work": "活动时间",
    "lowest validation loss": "最低验证损失",
    "lowest training loss of an epoch": "单个 epoch 的最低训练损失",
    "data {fingerprint}": "数据 {fingerprint}",
    "pairs {pairs}": "pairs {pairs}",
    "loss on {part}": "损失只算 {part}",
    "{share:.0%} held back": "留出 {share:.0%}",
    "the seeds differ, so the rows held back do too": "随机种子不同，留出的行也不同",
    # -- alerts --
    "failed at step {step:,}: {error}": "在第 {step:,} 步失败：{error}",
    "no reason recorded": "没有记录原因",
    "stalled at step {step:,}: no event for {time}": "停在第 {step:,} 步：{time} 没有动静",
    "lost at step {step:,}: its process is gone": "在第 {step:,} 步失联：训练进程已不在",
    "{count} loss spikes, the last": "{count} 次损失尖峰，最近一次",
    "loss spiked": "损失尖峰",
    "{times} at step {step:,}: {loss:.4g} after a median of {median:.4g}": (
        "{times}在第 {step:,} 步：{loss:.4g}，此前中位数 {median:.4g}"
    ),
    "loss not finite, last at step {step:,}": "损失不是有限值，最近在第 {step:,} 步",
    "validation loss not finite in epoch {epoch}": "epoch {epoch} 的验证损失不是有限值",
    "gradient not finite": "梯度不是有限值",
    "1 update skipped": "跳过 1 次更新",
    "{count:,} updates skipped": "跳过 {count:,} 次更新",
    "overfitting since epoch {epoch}: validation {lowest:.4g} -> {last:.4g}, training {before:.4g} -> {now:.4g}": (
        "自 epoch {epoch} 起过拟合：验证 {lowest:.4g} -> {last:.4g}，训练 {before:.4g} -> {now:.4g}"
    ),
    # -- the diagnosis --
    "ok": "正常",
    "warning": "警告",
    "error": "错误",
    "{ok} ok, {warnings} warnings, {errors} errors": "{ok} 项正常，{warnings} 个警告，{errors} 个错误",
    "and {count:,} more (--json lists them all)": "还有 {count:,} 个（--json 全部列出）",
    # -- the verifier's report --
    "model  {model}": "模型  {model}",
    "{count:,} parameters": "{count:,} 个参数",
    "data   {file}: {count:,} questions": "数据  {file}：{count:,} 道题",
    "data   {file}: {asked:,} of {count:,} questions": "数据  {file}：{count:,} 道题中的 {asked:,} 道",
    "free-running greedy answers, fp32, exact match (NFC); {seconds:.1f} s": (
        "贪心自由生成，fp32，逐字比较（NFC）；{seconds:.1f} s"
    ),
    "note   {note}": "说明  {note}",
    "accuracy (95 % Wilson interval; a contrast group counts only when all its rows are right)": (
        "正确率（95 % Wilson 区间；对比组全对才算对）"
    ),
    "  validation: rows of the training files that the run held back (--validation-split)": (
        "  验证：训练文件中该次训练留出的行（--validation-split）"
    ),
    "module": "模块",
    "contrast groups": "对比组",
    "answer diversity (different answers / different truths, entropy ratio) and numbers copied from the question": (
        "答案多样性（不同答案数 / 不同标准答案数，熵之比），以及照抄题目数字的比例"
    ),
    "entropy": "熵比",
    "unseen": "没见过的题",
    "copied, train": "照抄，训练题",
    "copied, unseen": "照抄，没见过",
    "partial inputs (training questions; test: better than the majority answer?)": (
        "残缺的题（训练题；检验：比多数答案好吗？）"
    ),
    "hidden": "遮住",
    "majority": "多数答案",
    "template's majority": "该句式的多数答案",
    "test": "检验",
    "calibration (confidence: the model's own probability of its whole answer)": (
        "校准（把握：模型给自己整个答案的概率）"
    ),
    "rows": "题目",
    "answers": "答案数",
    "mean confidence": "平均把握",
    "expected calibration error": "期望校准误差",
    "shortcuts (tests on matched rows, Holm-corrected together at {level:.0%})": (
        "捷径（配对检验，一起做 Holm 校正，水平 {level:.0%}）"
    ),
    "FOUND": "有",
    "{verdict} in {modules}": "{verdict}（{modules}）",
    "e.g. {question} → {answer}, expected {truth}": "例如 {question} → {answer}，应为 {truth}",
    "evidence (how often the model and the controls do it; the weakest effect with its 95 % interval)": (
        "证据（模型与对照各出现多少次；最弱的效应及其 95 % 区间）"
    ),
    "shortcut, rows": "捷径，题目",
    "trials": "次数",
    "model": "模型",
    "controls": "对照",
    "weakest effect": "最弱的效应",
    "p corrected": "校正后的 p",
    "verdict: no shortcut found": "结论：没有发现捷径",
    "verdict: shortcuts found: {names}": "结论：发现捷径：{names}",
    "too little data for: {names}": "数据不足以判断：{names}",
    # -- the monitor's table --
    "{count} run": "{count} 次训练",
    "{count} runs": "{count} 次训练",
    "... and {count} more runs (--once shows all)": "……还有 {count} 次训练（--once 全部显示）",
    "curve": "曲线",
    "age": "已开始",
    "alerts": "警报",
    "leaderboard: {measure}": "排行榜：{measure}",
    "no run below {places} yet; waiting (Ctrl-C leaves)": "{places} 下面还没有训练，等待中（Ctrl-C 退出）",
    "Ctrl-C leaves": "Ctrl-C 退出",
    # -- the comparison of settings: training/experiments/comparison.py --
    "run {number} of {all}: {setting}={value}, seed {seed}": (
        "第 {number} 次训练，共 {all} 次：{setting}={value}，种子 {seed}"
    ),
    "the comparison ends here; go on with: the same command and --resume ({directory})": (
        "对照到此中断；继续：同样的命令加上 --resume（{directory}）"
    ),
    "wrote {path}": "已写入 {path}",
    # -- sweeps: training/experiments/sweep/ --
    "trial {number} of {all}: {settings}": "第 {number} 个试验，共 {all} 个：{settings}",
    "epoch {epoch}: {count} of {all} trials go on: {names}": "epoch {epoch}：{all} 个试验中有 {count} 个继续：{names}",
    "{made:,} of {whole:,} updates were made, which saved {share:.0%}; no trial was begun again": (
        "共做了 {whole:,} 次更新中的 {made:,} 次，省下 {share:.0%}；没有任何试验从头重来"
    ),
    "{name} has diverged; the sweep goes on": "{name} 已发散；搜索继续",
    "{name}: {metric} {value:.6g}": "{name}：{metric} {value:.6g}",
    "the sweep ends here; go on with: python train.py --resume {directory}": (
        "搜索到此中断；继续：python train.py --resume {directory}"
    ),
    "run {number} of {all} with new seeds: {variant}, seed {seed}": (
        "用新种子复验，第 {number} 次训练，共 {all} 次：{variant}，种子 {seed}"
    ),
    "{name} has no finite {metric}, so nothing is confirmed": "{name} 没有有限的 {metric}，因此无法复验",
    "{name} had {metric} {swept:.4f} in the sweep, and has {fresh:.4f} on average with new seeds: the best of {count} "
    "trials owes part of its lead to luck (the winner's curse), so the new seeds count": (
        "{name} 在搜索中的 {metric} 为 {swept:.4f}，换用新种子后平均为 {fresh:.4f}：{count} 个试验里最好的那个，其领先"
        "总有一部分是运气（赢家诅咒），所以应以新种子的结果为准"
    ),
    "waiting for {name}, which an earlier sweep began and which is still trained (pid {pid})": (
        "等待 {name}：它由先前的搜索启动，仍在训练（pid {pid}）"
    ),
    "validation loss": "验证损失",
    "loss of the last epoch": "最后一个 epoch 的损失",
    "loss of the last epoch, which is not whole": "最后一个 epoch 的损失（该 epoch 不完整）",
    "{setting}: {metric} at the end": "{setting}：训练结束时的{metric}",
    "seed": "种子",
    "mean": "均值",
    "answered": "答对",
    "tokens/s": "token/秒",
    "{value} less {reference}: {mean:+.4f} (95 % interval {low:+.4f} to {high:+.4f}, paired t-test p = {p:.3f}): more "
    "than the spread of {seeds} seeds": (
        "{value} 减 {reference}：{mean:+.4f}（95 % 区间 {low:+.4f} 到 {high:+.4f}，配对 t 检验 p = {p:.3f}）：超出 "
        "{seeds} 个种子之间的波动"
    ),
    "{value} less {reference}: {mean:+.4f} (95 % interval {low:+.4f} to {high:+.4f}, paired t-test p = {p:.3f}): not "
    "more than the spread of {seeds} seeds": (
        "{value} 减 {reference}：{mean:+.4f}（95 % 区间 {low:+.4f} 到 {high:+.4f}，配对 t 检验 p = {p:.3f}）：没有超出 "
        "{seeds} 个种子之间的波动"
    ),
    # -- runs side by side, exported, imported: tools/experiment_views/, training/experiments/side_by_side.py --
    "settings that differ": "不同的设置",
    "{name}: it has made nothing yet": "{name}：还没有产物",
    "{name}: {fault}": "{name}：{fault}",
    "artefact": "产物",
    "kind": "种类",
    "condition": "情况",
    "unchanged": "未变",
    "unchecked": "未核对",
    "changed": "已改变",
    "missing": "已不在",
    "the runs have the same settings": "这些运行的设置相同",
    "curve of the loss": "损失曲线",
    "best step": "最优步",
    "training": "训练用时",
    "no statistics: {reason}": "没有统计：{reason}",
    "no two settings were trained with the same {seeds} seeds or more": (
        "没有两组设置用相同的 {seeds} 个或更多种子训练过"
    ),
    "{first} and {second} have the same settings and the same seed {seed}": (
        "{first} 和 {second} 的设置与种子 {seed} 都相同"
    ),
    "{name} is not finished ({state})": "{name} 还没有完成（{state}）",
    "{first} and {second} were trained on other data": "{first} 和 {second} 的训练数据不同",
    "another {setting} makes the loss one of other tokens": "{setting} 不同，损失就算在不同的 token 上",
    "the last loss of {name} is not finite": "{name} 的最后一个损失不是有限数",
    "wrote {path} ({count} runs)": "已写入 {path}（{count} 个运行）",
    "imported {path} ({id})": "已导入 {path}（{id}）",
    # -- the parity certificate's table --
    "backends": "后端",
    "available": "可用",
    "not available: {reason}; run: {fix}": "不可用：{reason}；请运行：{fix}",
    "loss, and its relative difference from the reference": "损失，及其与参考的相对差",
    "gradient norm, and its relative difference": "梯度范数，及其相对差",
    "certificate: PASS": "证书：通过",
    "certificate: FAIL": "证书：未通过",
    "reference": "参考",
    "largest difference over {steps} updates, and (tolerance), {precision}": (
        "{steps} 次更新中的最大差，括号内为容差，{precision}"
    ),
    "variant": "变体",
    "verdict": "结论",
    "update": "更新",
    "seconds": "秒",
    "it recorded no fingerprints: batches and weights were not compared": "没有记录指纹：未比较 batch 和权重",
    "pass, bitwise": "通过，逐位相同",
    "pass": "通过",
    "fail": "未通过",
    "not run": "未运行",
    "reference  {name}; all resumed its checkpoint of step {start}: steps {first} to {last}": (
        "参考      {name}；都从它第 {start} 步的检查点继续：第 {first} 到 {last} 步"
    ),
    "config     {hash} ({precision})": "配置      {hash}（{precision}）",
    "versions   {versions}": "版本      {versions}",
    "hardware   {device}: {machine}; {platform}": "硬件      {device}：{machine}；{platform}",
    "commit     {commit}": "提交      {commit}",
    "{commit} with changes": "{commit}（有改动）",
    "not a git checkout": "不是 git 工作目录",
    "made       {time}": "生成时间  {time}",
    # -- the parity certificate's picture --
    "backends against the reference": "各后端与参考曲线之差",
    "PASS": "通过",
    "FAIL": "未通过",
    "bitwise": "逐位相同",
    "tolerance": "容差",
    "loss, relative difference": "损失的相对差",
    "gradient norm, relative difference": "梯度范数的相对差",
    # -- the verifier's picture --
    "Verification": "验证",
    "train": "训练题",
    "paraphrase": "换说法",
    "new fact": "新事实",
    "unseen facts": "新事实",
    "contrast group": "对比组全对",
    "accuracy (95 % Wilson interval)": "正确率（95 % Wilson 区间）",
    "shortcuts": "捷径",
    "effect (0: like the control, 1: always)": "效应（0：与对照相同；1：总是）",
    "majority answer": "多数答案",
    "template only": "只看句式",
    "number copy": "照抄数字",
    "lookup": "死记硬背",
    "ignored tag": "无视标签",
    "found": "有",
    "not found": "没有",
    "too little data to say": "数据不足",
    "partial inputs (training questions)": "残缺的题（训练题）",
    "whole question": "完整的题",
    "operands hidden": "遮住数据",
    "template hidden": "遮住句式",
    "calibration": "校准",
    "confidence": "模型自报的把握",
    # -- the loss landscape's picture --
    "Loss landscape": "损失地形",
    "loss of a token": "每个 token 的损失",
    "random direction 1": "随机方向 1",
    "random direction 2": "随机方向 2",
    "main direction 1": "主方向 1",
    "main direction 2": "主方向 2",
    "path, loss on the plane": "路径在平面上的损失",
    "path, true loss": "路径的真实损失",
    "centre": "中心",
    "from above": "俯视图",
    "no weight snapshots, so no path": "没有权重快照，所以没有路径",
    "on the plane": "平面上",
    "distance from the plane, % of the weights": "离平面的距离，占权重的 %",
    "how true the plane is along the path": "路径上平面有多真",
    # -- the experiment store: tools/experiments.py --
    "{name}: in lists again": "{name}：已恢复到列表中",
    "{name}: archived": "{name}：已归档",
    "{name}: {tags}": "{name}：{tags}",
    "{name}: {state}, step {step:,}, checkpoints: {count}": "{name}：{state}，第 {step:,} 步，检查点 {count} 个",
    "delete all that they have written, for good? [y/N]": "永久删除它们写下的全部内容？[y/N]",
    "nothing was deleted": "什么都没有删除",
    "{name}: deleted": "{name}：已删除",
    "{name}: deleted; {kept} stay": "{name}：已删除；保留 {kept}",
    "runs read again: {count:,} ({size} of records)": "重新读取了 {count:,} 次训练（记录共 {size}）",
    "{count} of {total} runs": "{total} 次训练中的 {count} 次",
    "best loss {mean} ± {spread} (mean and standard deviation)": "最优损失 {mean} ± {spread}（均值和标准差）",
    "not known": "未知",
    "done": "进度",
    "val loss": "验证损失",
    "tags": "标签",
    "figures": "数值",
    "settings": "设置",
    "task": "任务",
    "started": "开始",
    "last event": "最近记录",
    "ended": "结束",
    "training time": "训练用时",
    "speed": "速度",
    "checkpoints": "检查点",
    "archived": "已归档",
    "yes": "是",
    "note": "备注",
    # -- the certificate of a chat's loss mask: training/tasks/chat/certificate.py --
    "rows                              {rows:>13,}": "行数                              {rows:>13,}",
    "tokens                            {tokens:>13,}  {mean:,.1f} a row": (
        "token 数                          {tokens:>13,}  平均每行 {mean:,.1f} 个"
    ),
    "tokens that are trained           {trained:>13,}  {share:.1%} of them": (
        "参与训练的 token                  {trained:>13,}  占 {share:.1%}"
    ),
    "tokens left out on a turn's edge  {count:>13,}": "跨在回合边界上、略去的 token      {count:>13,}",
    "unknown tokens                    {count:>13,}": "未知 token                        {count:>13,}",
    "rows with no trained token        {count:>13,}{first}": "没有可训练 token 的行             {count:>13,}{first}",
    "rows that are cut                 {count:>13,}{first}": "被截断的行                        {count:>13,}{first}",
    "rows whose answer is cut          {count:>13,}{first}": "回答被截断的行                    {count:>13,}{first}",
    "rows that begin with two BOS      {count:>13,}{first}": "以两个 BOS 开头的行               {count:>13,}{first}",
    "turns of the assistant            {turns:>13,}": "助手的回合                        {turns:>13,}",
    "turns whose stop token is trained {stops:>13,}  {names}": (
        "终止 token 参与训练的回合         {stops:>13,}  {names}"
    ),
    "pad is eos                                  yes  no matter: no mask goes by token id": (
        "pad 就是 eos                                 是  没有影响：掩码从不按 token id 来定"
    ),
    "pad is eos                                   no": "pad 就是 eos                                 否",
    "  first: {where}": "  首例：{where}",
    "note    {count:,} turns have no trained stop token: no end is learned": (
        "注意    {count:,} 个回合没有可训练的终止 token，模型从中学不到何时结束"
    ),
    "note    answers end by {names}, not {eos}; both are saved as ends": (
        "注意    回答以 {names} 结束，而不是 {eos}；两者都记为结束符"
    ),
    "note    {count:,} rows: earlier turns are written otherwise than the last one": (
        "注意    {count:,} 行：模板对较早的回合与最后一个回合写法不同"
    ),
    "note    {count:,} rows: the tags leave out the stop token; it is trained": (
        "注意    {count:,} 行：模板的标记漏掉了终止 token，它仍参与训练"
    ),
    "note    {count:,} rows: the tags hold the prompt too; it is not trained": (
        "注意    {count:,} 行：模板的标记包含了提示部分，它不参与训练"
    ),
    # -- tools/serve.py --
    "runs    {root}": "训练    {root}",
    "data    {directories}": "数据    {directories}",
    "warning the server speaks plain HTTP: whoever is on the way can read the token and all data": (
        "警告    服务使用明文 HTTP：途中的任何人都能读到令牌和全部数据"
    ),
    "open    {link}": "打开    {link}",
    "stop    Ctrl-C ends the server; jobs that it started go on": "停止    按 Ctrl-C 结束服务；它启动的任务继续运行",
    "ended   {running} running jobs go on by themselves; {waiting} wait for the next server on {root}": (
        "已结束  {running} 个运行中的任务会自行继续；{waiting} 个等待下一个使用 {root} 的服务"
    ),
    # -- the report of a run: tools/report.py, tools/server/report/page.py --
    "APT trainer, {time}": "APT 训练器，{time}",
    "and {count:,} more": "以及另外 {count:,} 项",
    "begun": "开始",
    "certificates": "证书",
    "curves": "曲线",
    "each update": "每次更新",
    "epochs": "各 epoch",
    "facts": "事实",
    "figure": "项目",
    "message": "内容",
    "name": "名称",
    "not finite: {count:,}": "非有限值：{count:,}",
    "perplexity": "困惑度",
    "samples per second": "每秒样本数",
    "saved   {path}": "已保存  {path}",
    "setting": "设置",
    "size": "大小",
    "smoothed": "平滑后",
    "tokens per second": "每秒 token 数",
    "trained for": "训练用时",
    "value": "值",
    "warnings": "警告",
    "what the finished model does": "最终模型的表现",
    # -- answers of the server: tools/server/, training/experiments/jobs/job_queue.py --
    "the server made an error of its own; its terminal shows which: please report it": (
        "服务自身出错；它的终端显示了错误：请报告给我们"
    ),
    "{count} streams of events are open, and there may be no more; close a page": (
        "已打开 {count} 个事件流，不能再多；请关掉一个页面"
    ),
    "this needs the server's token, as `Authorization: Bearer TOKEN` or by the cookie of its login link; the server's "
    "terminal shows the link, and .server/token below its root holds the token": (
        "需要服务的令牌：用 `Authorization: Bearer TOKEN`，或打开登录链接得到 cookie；链接显示在服务的终端，"
        "令牌在根目录下的 .server/token"
    ),
    "more than {count:g} requests a second; wait": "每秒超过 {count:g} 个请求；请稍候",
    "this is not the token of the server; its terminal shows the right link": (
        "这不是服务的令牌；它的终端显示了正确的链接"
    ),
    "no run has the id '{id}'; GET /api/training/jobs lists them": (
        "没有编号为 '{id}' 的训练；GET /api/training/jobs 列出全部"
    ),
    "no job and no run has the id '{id}'; GET {path} lists them": "没有编号为 '{id}' 的任务或训练；GET {path} 列出全部",
    "the run '{name}' has not begun; wait until it has": "训练 '{name}' 还没有开始；请等它开始",
    "the run '{name}' cannot be read now ({reason}); ask again": "训练 '{name}' 现在读不了（{reason}）；请再试",
    "{count} pictures wait to be drawn; ask again": "有 {count} 张图等待绘制；请再试",
    "the picture was not drawn within {seconds:g} s; ask again later": "图在 {seconds:g} 秒内没有画完；请稍后再试",
    "{count} configs are stored, and there may be no more; delete some": "已存 {count} 个配置，不能再多；请删除一些",
    "no config has the id '{id}'; GET /api/training/configs lists them": (
        "没有编号为 '{id}' 的配置；GET /api/training/configs 列出全部"
    ),
    "{name} is a finished model, which holds no state to go on from; choose a checkpoint": (
        "{name} 是最终模型，没有可供续训的状态；请选一个检查点"
    ),
    "the run has no checkpoint '{asked}'; GET {path} lists them": "该训练没有检查点 '{asked}'；GET {path} 列出全部",
    "the run was trained by the backend '{backend}'; resume it where it was started, by --resume": (
        "该训练由后端 '{backend}' 进行；请在启动它的地方用 --resume 续训"
    ),
    "no checkpoint has the id '{id}'; GET …/jobs/ID/checkpoints lists them": (
        "没有编号为 '{id}' 的检查点；GET …/jobs/ID/checkpoints 列出全部"
    ),
    "from 1 to {most} runs are compared, got {count}": "可比较 1 到 {most} 个训练，收到 {count} 个",
    "the last message must be the user's, with some text": "最后一条消息必须是用户的，并且有内容",
    "another question is being answered; wait for its end, or close its stream": (
        "正在回答另一个问题；请等它结束，或关闭它的流"
    ),
    "the run '{name}' has no finished model and no checkpoint; wait for one": (
        "训练 '{name}' 还没有最终模型，也没有检查点；请等待"
    ),
    "{count} forecasts or readings of data are asked for already; try again": (
        "已有 {count} 个估算或数据读取请求；请再试"
    ),
    "the process that did the work failed (exit code {code}); it may have needed more than the {memory} GB of memory "
    "that it may have: try it from the command line": (
        "执行的进程失败（退出码 {code}）；它可能需要超过 {memory} GB 的内存上限：请在命令行试"
    ),
    "the model needs about {needed} of memory, and {free} are free; stop a run, or let another program end": (
        "模型约需 {needed} 内存，而空闲的只有 {free}；请停止一个训练，或结束别的程序"
    ),
    "the server ends; ask the next one": "服务正在结束；请等下一个服务",
    "it takes longer than {seconds:g} s; try it from the command line, where it may take any time": (
        "用时超过 {seconds:g} 秒；请在命令行试，那里没有时间限制"
    ),
    "job {name} has ended already ({state}); there is nothing to stop": "任务 {name} 已经结束（{state}）；没有可停止的",
    "it has finished": "它已完成",
    "it is {state}": "它处于 {state} 状态",
    "job {name} cannot be resumed: {why}": "任务 {name} 不能续训：{why}",
    "run {name} cannot be resumed: a process is training in it": "训练 {name} 不能续训：有进程正在其中训练",
    "run {name} cannot be resumed: it has no checkpoint": "训练 {name} 不能续训：它没有检查点",
    "job {name} is at work; stop it first": "任务 {name} 正在运行；请先停止",
    "job {name} is about to start; stop it first": "任务 {name} 即将启动；请先停止",
    "a process is training in {name}; stop it first": "有进程正在 {name} 中训练；请先停止",
    "run {name} does not run; there is nothing to stop": "训练 {name} 没有在运行；没有可停止的",
    "run {name} belongs to another user, who alone can stop it": "训练 {name} 属于另一个用户，只有他能停止",
    "run {name}: its process (pid {pid}) runs on another computer, or cannot be identified; stop it there": (
        "训练 {name}：它的进程（pid {pid}）在另一台机器上，或无法辨认；请在那里停止"
    ),
    "the server is ending and takes no more orders; ask again when it runs": (
        "服务正在结束，不再接受请求；等它运行后再试"
    ),
    "none": "无",
    "{name} has no checkpoint '{checkpoint}'; there is {listed}": "{name} 没有检查点 '{checkpoint}'；现有 {listed}",
    # -- tools/jobs.py --
    "queued": "排队中",
    "stopping": "停止中",
    "{name} ({id})  {state}, number {position} of those that wait": "{name}（{id}）  {state}，排在第 {position} 位",
    "{name} ({id})  {state}": "{name}（{id}）  {state}",
    "id": "编号",
    "left": "剩余",
    "{line}; waiting for it": "{line}；正在等待",
    "the server is back": "服务已恢复",
    "the run was begun again": "训练已从头重新开始",
    "step {step}  validation loss {loss}": "第 {step} 步  验证损失 {loss}",
    "step {step}  saved {path}": "第 {step} 步  已保存 {path}",
    "state   {state}: {reason}": "状态    {state}：{reason}",
    "state   {state}": "状态    {state}",
    "step {step}  loss {loss}": "第 {step} 步  损失 {loss}",
    "step {step}/{total}  loss {loss}": "第 {step}/{total} 步  损失 {loss}",
    "error: {message}": "错误：{message}",
    # -- tools/models.py --
    "{version} holds these very bytes already (registered {time}); nothing was written": (
        "{version} 的内容与它逐字节相同（登记于 {time}）；没有写入任何东西"
    ),
    "registered {version}: {files} files, {size}, from {path}": "已登记 {version}：{files} 个文件，{size}，来自 {path}",
    "parent  {version}": "上级    {version}",
    "no models in {root} yet": "{root} 中还没有模型",
    "version": "版本",
    "aliases": "别名",
    "registered": "登记时间",
    "val. loss": "验证损失",
    "parent": "上级版本",
    "path": "路径",
    "started from": "起点模型",
    "data fingerprint": "数据指纹",
    "config hash": "配置哈希",
    "files": "文件",
    "nothing differs: settings, data, figures and files are the same": "没有区别：设置、数据、数值和文件都相同",
    "the data are the same": "数据相同",
    "of the data nothing is known": "数据未知",
    "gate open  {gate}   ({values})": "门槛通过  {gate}   （{values}）",
    "gate shut  {gate}   ({values})": "门槛未过  {gate}   （{values}）",
    "{alias} stays at version {before}": "{alias} 仍指向版本 {before}",
    "{alias} still points to no version": "{alias} 仍未指向任何版本",
    "{alias} points to version {now} already": "{alias} 已经指向版本 {now}",
    "{alias} points to version {now}": "{alias} 指向版本 {now}",
    "{alias} points to version {now}; before, to {before}": "{alias} 指向版本 {now}；此前指向 {before}",
    "set": "指定",
    "rolled back": "回退",
    "time": "时间",
    "move": "操作",
    "gate": "门槛",
    "{version}  whole: {files} files, {size}": "{version}  完整：{files} 个文件，{size}",
    "{version}  {path}  {damage}: {detail}": "{version}  {path}  {damage}：{detail}",
    "damaged": "已损坏",
    "added": "多出",
    "pulled {version} to {path}: {files} files, {size}, every byte as it was registered": (
        "已取出 {version} 到 {path}：{files} 个文件，{size}，逐字节与登记时相同"
    ),
    "use it   --model {path}": "使用    --model {path}",
    # -- data of the task diffusion: training/tasks/diffusion/ --
    "data    {count:,} images of {width}×{height} pixels, {colors}: {name}, {kind}": (
        "数据    {count:,} 张 {width}×{height} 像素的图像，{colors}：{name}，{kind}"
    ),
    "gray": "灰度",
    "RGB": "RGB",
    "a directory of images": "图像目录",
    "arrays in a file {suffix}": "{suffix} 文件中的数组",
    "points of the plane from a formula": "由公式生成的平面点集",
    "handwritten digits of scikit-learn, levels 0 to 16 as [-1, 1]": (
        "scikit-learn 的手写数字，灰度级 0 到 16 变换到 [-1, 1]"
    ),
    "data    {count:,} vectors of {length:,} numbers, each taken to mean 0 and deviation 1: {name}, {kind}": (
        "数据    {count:,} 个向量，每个有 {length:,} 个数，逐维标准化为均值 0、标准差 1：{name}，{kind}"
    ),
    "classes {count:,}: {names}": "类别    {count:,} 个：{names}",
    "{name} is the built-in set; what lies here under this name is ./{name}": (
        "{name} 是内置数据集；当前目录中同名的数据写作 ./{name}"
    ),
    "{name}: not used of it: {arrays}": "{name}：其中没有用到：{arrays}",
    "{array}: values from {low:g} to {high:g} are taken as [0, 1], and become [-1, 1]": (
        "{array}：取值从 {low:g} 到 {high:g}，视为 [0, 1]，变换到 [-1, 1]"
    ),
    "{count:,} images of {name} have damaged EXIF data and are taken as upright": (
        "{name} 中有 {count:,} 张图像的 EXIF 数据已损坏，按正向处理"
    ),
    "{count:,} numbers of the vectors are the same in all samples": "向量中有 {count:,} 个数在所有样本里都相同",
    "{count:,} images are gray, and get three equal channels": "{count:,} 张灰度图像变为三个相同的通道",
    "{count:,} images have colors, and become gray": "{count:,} 张彩色图像变为灰度",
    "{count:,} images are smaller than image_size={size} and are enlarged": (
        "{count:,} 张图像小于 image_size={size}，将被放大"
    ),
    "{count:,} samples are copies of others; none is held back from its copies": (
        "{count:,} 个样本与别的样本完全相同；相同的样本不会被分到训练和验证两边"
    ),
    # -- pipelines: training/tasks/diffusion/latents.py, training/models/diffusion_pipeline/saving.py --
    "data    computing the latents of {count:,} images, once": "数据    正在计算 {count:,} 张图像的潜变量（只算一次）",
    "data    latents of {done:,} of {count:,} images": "数据    已算出 {count:,} 张图像中 {done:,} 张的潜变量",
    "latents {shape} of images {pixels}, {captions:,} captions of up to {tokens} tokens, cached in {directory}": (
        "潜变量  {shape}，来自 {pixels} 的图像；{captions:,} 种文字说明，每种至多 {tokens} 个 token；缓存于 {directory}"
    ),
    "noise   schedule and prediction are those of the pipeline's scheduler": (
        "噪声    噪声调度与预测目标取自该 pipeline 的 scheduler"
    ),
    "{count:,} captions have more than {tokens} tokens, and their ends are cut off": (
        "{count:,} 种文字说明超过 {tokens} 个 token，末尾被截去"
    ),
    "merge   {where} against the adapters: outputs differ by {largest:.1e} at most (the largest is {scale:.1e})": (
        "合并    {where} 与适配器比较：输出最多相差 {largest:.1e}（最大的输出为 {scale:.1e}）"
    ),
    "{where} is not the network that was trained: its outputs differ by {largest:.1e} (tolerance {tolerance:.1e}); "
    "use the adapters with their base": (
        "{where} 不是训练出来的那个网络：输出相差 {largest:.1e}（容许 {tolerance:.1e}）；请使用适配器加基座模型"
    ),
    # -- the choice of a backend: training/forecast/choice_table.py, training/forecast/backend_choice.py --
    "choice of a backend and a layout for this run (--backend auto)": "为这次训练选择后端和布局（--backend auto）",
    "machine: GPUs that the driver neither counts nor measures, {cores} cores, main memory free: {host}": (
        "本机：有 GPU，但驱动不报告数量和显存；{cores} 个 CPU 核，可用内存 {host}"
    ),
    "machine: no GPU, {cores} cores, main memory free: {host}": "本机：没有 GPU；{cores} 个 CPU 核，可用内存 {host}",
    "machine: {count} GPU ({names}), free on each: {free}, {cores} cores, main memory free: {host}": (
        "本机：{count} 块 GPU（{names}），每块可用显存 {free}；{cores} 个 CPU 核，可用内存 {host}"
    ),
    "backend       ranks ZeRO offload   batch    memory  speed  verdict": (
        "后端           rank ZeRO    卸载   batch      内存   速度  结论"
    ),
    "{name} {ranks:>6} {zero:>4} {offload} {batch:>7} {memory:>9} {speed:>6}  {verdict}": (
        "{name} {ranks:>6} {zero:>4} {offload} {batch:>7} {memory:>9} {speed:>6}  {verdict}"
    ),
    "    all": "   全部",
    "  state": "   状态",
    "chosen": "选中",
    "fits": "放得下",
    "memory unknown": "内存未知",
    "too large": "放不下",
    "too large [{number}]": "放不下 [{number}]",
    "cannot [{number}]": "不能用 [{number}]",
    "not by itself [{number}]": "须指名 [{number}]",
    "[{number}] {reason}": "[{number}] {reason}",
    "batch: micro-batch x forward passes of a rank in an update; an update has the same samples in every row": (
        "batch：micro-batch × 每个 rank 每次更新的前向次数；各行每次更新的样本都相同"
    ),
    "memory: forecast peak of a rank; {margin:.0%} of what is free stays free": (
        "内存：预计的每个 rank 的峰值；可用量的 {margin:.0%} 留作余量"
    ),
    "speed: estimated, not measured, as a multiple of one process: operations, bytes moved and kernels issued on an "
    "A100 with PCIe (docs/CHOOSING.md); --estimate measures": (
        "速度：估算值，不是实测，以单进程为 1：按带 PCIe 的 A100 上的运算量、传输字节数和 kernel 下发时间推算"
        "（docs/zh-CN/CHOOSING.md）；实测用 --estimate"
    ),
    "chosen: {flags}: {why}": "选中：{flags}：{why}",
    "memory could not be compared for any candidate, so none was ruled out by it; this is the fastest of {count} by "
    "the estimate": "没有一个候选能比较内存，因此没有按内存排除任何一个；这是 {count} 个候选中估算最快的",
    "the only one that fits": "只有它放得下",
    "of {count} that fit, {fast} are the fastest by the estimate, and this is the simplest of them": (
        "放得下的有 {count} 个，其中 {fast} 个估算最快，这是它们中最简单的"
    ),
    "the fastest by the estimate of {count} that fit": "放得下的 {count} 个中估算最快的",
    "it trains elsewhere, which may cost money: never chosen by itself, only if it is named": (
        "它在别处训练，可能要花钱：从不自动选中，须由你指名"
    ),
    "{reason}; run: {fix}": "{reason}；请运行：{fix}",
    "each rank needs {need} and may use {usable}": "每个 rank 需要 {need}，可以用 {usable}",
    "the ranks offload {size} to the host, and may use {usable} there": (
        "各 rank 共向主机内存卸载 {size}，那里可以用 {usable}"
    ),
    "it starts no processes, and {count} were asked for": "它不启动多个进程，而你要求 {count} 个",
    "it needs a GPU, and there is none here": "它需要 GPU，这里没有",
    "it needs {count} GPUs, and there are {here} here": "它需要 {count} 块 GPU，这里有 {here} 块",
    "it needs a GPU of Apple's, and there is none here": "它需要 Apple 的 GPU，这里没有",
    "precision=fp16 needs a GPU, and there is none here": "precision=fp16 需要 GPU，这里没有",
    "backend {name}, kept from the run in {directory}: --backend auto chooses for new runs only": (
        "后端 {name} 沿用 {directory} 中的训练：--backend auto 只为新的训练做选择"
    ),
}
