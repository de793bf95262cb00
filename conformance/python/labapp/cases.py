"""What a file of cases says about the site that they are meant for. No Django here: `../lab.py` reads it as well."""

import datetime
import json
import re
from pathlib import Path


def read(directory, package):
    """The `setup` of a package's cases: users, clients, tokens, and the profiles with their settings."""
    return json.loads((Path(directory) / "scenarios" / f"{package}.json").read_text(encoding="utf-8"))["setup"]


def packages(directory):
    """Every package that the directory has cases of; other JSON files may lie beside them."""
    for file in sorted((Path(directory) / "scenarios").glob("*.json")):
        if "scenarios" in json.loads(file.read_text(encoding="utf-8")):
            yield file.stem


def setting(value):
    """A value of Django's settings as JSON writes it: durations are spelled `py:timedelta(seconds=4)`."""
    if isinstance(value, dict):
        return {key: setting(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [setting(inner) for inner in value]
    if isinstance(value, str) and (spelled := re.fullmatch(r"py:timedelta\((\w+)=([\d.]+)\)", value)):
        return datetime.timedelta(**{spelled[1]: float(spelled[2])})
    return value


def apply(profile, settings):
    """Puts a profile's settings over those of the package; a dotted name reaches into a dictionary."""
    for name, value in profile["settings"].items():
        target = settings
        *path, last = name.split(".")
        for step in path:
            target = target.setdefault(step, {})
        target[last] = setting(value)


def duration(text):
    """A duration as durin's users write it, `30 00:00:00`."""
    days, clock = text.split(" ")
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    return datetime.timedelta(days=int(days), hours=hours, minutes=minutes, seconds=seconds)
