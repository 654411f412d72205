"""Print the requirements of a package and some of its extras: ``requirements.py PYPROJECT EXTRA...``"""

import re
import sys
from pathlib import Path

import tomllib

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
waiting = list(sys.argv[2:])
requirements = list(project["dependencies"])
while waiting:
    for requirement in project["optional-dependencies"][waiting.pop()]:
        own = re.fullmatch(rf"{project['name']}\[(.+)\]", requirement)  # an extra that includes other extras
        if own:
            waiting += [extra.strip() for extra in own[1].split(",")]
        else:
            requirements.append(requirement)
print("\n".join(dict.fromkeys(requirements)))
