"""Reads dotenv files with python-dotenv.

Reads one line of JSON, a list of the texts of files, and writes one: what each of them holds, by name.
"""

import io
import json
import logging
import sys

from dotenv import dotenv_values

# It tells of each file it cannot parse; here many are meant to be such.
logging.disable()
print(json.dumps([dict(dotenv_values(stream=io.StringIO(text))) for text in json.loads(sys.stdin.readline())]))
