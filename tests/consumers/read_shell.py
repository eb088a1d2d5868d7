"""Sources environment files with a shell, as `set -a; . FILE` does, and looks at the environment of the next program.

Reads one line of JSON: the shell, the names that are looked for, and a list of the texts of files. Writes one: what each
file sets, by name. What is sourced may run anything: as root it runs as nobody, in an empty folder, without a PATH.
"""

import json
import os
import subprocess
import sys
import tempfile

LOOP = """
cd "$1" || exit 1
file=0
while [ "$file" -lt "$2" ]; do
    ( set -a; . "./$file"; exec /usr/bin/env -0 ) > "$file.out" 2> /dev/null < /dev/null
    file=$((file + 1))
done
"""


def main():
    asked = json.loads(sys.stdin.readline())
    with tempfile.TemporaryDirectory() as folder:
        for index, text in enumerate(asked["files"]):
            with open(os.path.join(folder, str(index)), "wb") as file:
                file.write(text.encode())
        other = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
        if other:
            os.chmod(folder, 0o777)
        command = [asked["shell"], "-c", LOOP, "sh", folder, str(len(asked["files"]))]
        subprocess.run(command, env={}, check=True, **other)
        found = []
        for index in range(len(asked["files"])):
            with open(os.path.join(folder, f"{index}.out"), "rb") as file:
                pairs = [line.split(b"=", 1) for line in file.read().split(b"\0") if b"=" in line]
            read = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in pairs}
            found.append({name: read[name] for name in asked["names"] if name in read})
        print(json.dumps(found))


main()
