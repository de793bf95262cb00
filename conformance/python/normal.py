"""What of an answer is compared: chance and clock are taken out of it, their shape stays.

A token becomes `<tok:hex64>`, a time `<timeT.6Z +86400s>`: how it is written and how far from now it is, to the minute.
"""

import datetime
import json
import re

HEADERS = ["content-type", "www-authenticate", "allow", "location", "retry-after", "vary"]

UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
DJFORGE = r"[0-9a-f]{40}:hash:\$pbkdf2-sha256\$\d+\$[A-Za-z0-9./]{22}\$[A-Za-z0-9./]{43}"
TIME = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)(?P<gap>[T ])(?P<clock>\d\d:\d\d:\d\d)(?P<part>\.\d+)?(?P<zone>Z|[+-]\d\d:\d\d)?"
)
# Nearer than this is "now": the case has just made it.
NOW_SECONDS = 120


def shape(text):
    """What kind of secret a text is, and how long."""
    if re.fullmatch(r"[0-9a-f]{16,}", text):
        return f"hex{len(text)}"
    if re.fullmatch(UUID4, text):
        return "uuid4"
    if re.fullmatch(DJFORGE, text):
        secret, _, stored = text.partition(":hash:$pbkdf2-sha256$")
        return f"hex{len(secret)}:hash:pbkdf2-sha256/{stored.split('$')[0]}"
    if len(text) >= 32 and re.fullmatch(r"[A-Za-z0-9_-]+=*", text):
        return f"b64url{len(text)}"
    if prefixed := re.fullmatch(r"([a-z]+_)([0-9a-f]+)", text):
        return f"{prefixed[1]}hex{len(prefixed[2])}"
    return f"str{len(text)}"


class Normal:
    """The normal form of what one answer holds. `names` are texts to be replaced, longest first."""

    def __init__(self, names, at):
        self.names = sorted(names.items(), key=lambda name: -len(name[0]))
        self.at = at

    def text(self, text):
        for value, name in self.names:
            text = text.replace(value, name)
        text = TIME.sub(self.time, text)
        text = re.sub(r"\bin (\d+) second", lambda wait: f"in <~{to_ten(int(wait[1]))}> second", text)
        text = re.sub(DJFORGE, lambda token: f"<{shape(token[0])}>", text)
        text = re.sub(rf"\b{UUID4}\b", "<uuid4>", text)
        return re.sub(r"\b[0-9a-f]{32,}\b", lambda token: f"<hex{len(token[0])}>", text)

    def time(self, found):
        zone = found["zone"] or ""
        offset = "+00:00" if zone in {"", "Z"} else zone
        instant = datetime.datetime.fromisoformat(f"{found['day']}T{found['clock']}{offset}")
        away = instant.timestamp() - self.at
        distance = "~now" if abs(away) < NOW_SECONDS else f"{round(away / 60) * 60:+d}s"
        digits = f".{len(found['part']) - 1}" if found["part"] else ""
        return f"<time{'_' if found['gap'] == ' ' else 'T'}{digits}{zone} {distance}>"

    def json(self, value, key=None):
        if isinstance(value, dict):
            return {self.text(name): self.json(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.json(inner, key) for inner in value]
        if isinstance(value, str):
            is_unknown = key == "token" and value not in dict(self.names)
            return f"<{shape(value)}>" if is_unknown else self.text(value)
        if isinstance(value, int) and not isinstance(value, bool):
            if str(key).endswith("_ttl"):
                return f"~{to_ten(value)}" if value > 20 else "<short>"
            if key in {"id", "pk"}:
                return "<int>"
        return value

    def headers(self, headers):
        normal = {}
        for name in HEADERS:
            if name in headers:
                value = self.text(headers[name])
                if name == "retry-after" and value.isdigit() and int(value) > 5:
                    value = f"~{to_ten(int(value))}"
                normal[name] = value
        return normal

    def body(self, headers, body):
        """The body and what it is: empty, json, badjson or text."""
        if not body:
            return None, "empty"
        if "json" in headers.get("content-type", ""):
            try:
                return self.json(json.loads(body)), "json"
            except ValueError:
                return self.text(body.decode("utf-8", "replace")), "badjson"
        return self.text(body.decode("utf-8", "replace")), "text"


def answer(answered, names, compare):
    """The normal form of an answer, with only what the step wants compared."""
    normal = Normal(names, answered.at)
    body, kind = normal.body(answered.headers, answered.body)
    headers = normal.headers(answered.headers)
    if compare and "headers" not in compare:
        headers = {name: value for name, value in headers.items() if name in compare}
    form = {"status": answered.status, "headers": headers}
    if not compare or "body" in compare:
        form |= {"body": body, "kind": kind}
    return form


def to_ten(number):
    return round(number / 10) * 10
