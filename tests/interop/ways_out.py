"""What a refusal must hold beside its reason: what the user can do."""

import re

WAY_OUT = re.compile(
    r"--set |--no-verify|[;:,] (?:and |or )?(?:Cast|Expand|Reshape|Unsqueeze|compute|convert|export|give|inline|leave|make|mask|put|take|update|use|write)\b"
)
