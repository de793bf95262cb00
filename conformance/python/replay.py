"""Asks a server what a case asks, step by step, and keeps what was answered."""

import base64
import email
import email.policy
import http.client
import json
import re
import secrets
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import normal

BOUNDARY = "labboundary7f3a"
# Django's file mailbox writes this between mails.
BETWEEN_MAILS = b"\n" + b"-" * 79 + b"\n"
# Texts that are shorter say nothing when they turn up in an answer.
SHORTEST_NAME = 9


@dataclass
class Answer:
    """What came back, and when."""

    status: int
    headers: dict
    body: bytes
    at: float = field(default_factory=time.time)

    def raw(self):
        """For people who want to see the whole."""
        return {"status": self.status, "headers": self.headers, "body": self.body.decode("utf-8", "replace")[:4000]}


class Site:
    """A server with one profile's settings, its reset hook and its mailbox."""

    def __init__(self, url, reset, mail):
        self.url = urllib.parse.urlsplit(url)
        self.reset_url = reset
        self.mail = Path(mail)

    def reset(self):
        request = urllib.request.Request(self.reset_url, data=b"", method="POST")
        with urllib.request.urlopen(request, timeout=30):
            pass

    def ask(self, method, path, headers, body):
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=30)
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body is not None or method in {"POST", "PUT", "PATCH"}:
            connection.putheader("Content-Length", str(len(body or b"")))
        connection.putheader("Connection", "close")
        connection.endheaders(body)
        response = connection.getresponse()
        content = response.read()
        joined = {}
        for name, value in response.getheaders():
            joined.setdefault(name.lower(), []).append(value)
        connection.close()
        return Answer(response.status, {name: ", ".join(values) for name, values in joined.items()}, content)

    def newest_mail(self, to):
        """The newest mail to an address, as JSON."""
        for _ in range(20):
            files = sorted(self.mail.glob("*"), key=lambda file: file.stat().st_mtime)
            for mail in reversed([part for file in files for part in file.read_bytes().split(BETWEEN_MAILS)]):
                read = email.message_from_bytes(mail.lstrip(b"\n"), policy=email.policy.default)
                if to in (read["To"] or ""):
                    text = read.get_content().rstrip("\n")
                    said = {"subject": read["Subject"], "from": read["From"], "to": read["To"], "text": text}
                    return Answer(200, {"content-type": "application/json"}, json.dumps(said).encode())
            time.sleep(0.1)
        return Answer(0, {}, b"(no mail)")


class Case:
    """One case on one site: `values` are what its templates may name."""

    def __init__(self, case, setup, site):
        self.steps = case["steps"]
        self.site = site
        self.values = {"uniq": "u" + secrets.token_hex(5)}
        self.values |= {f"t:{token['label']}": token["token"] for token in setup.get("tokens", [])}
        self.captured = {}

    def run(self):
        """What each step that asks something came to."""
        self.site.reset()
        return [done for number, step in enumerate(self.steps) if (done := self.step(number, step))]

    def step(self, number, step):
        if "sleep" in step:
            time.sleep(step["sleep"])
            return None
        if "relation" in step:
            relation, one, other = step["relation"]
            holds = (self.values.get(one) == self.values.get(other)) == (relation == "eq")
            return {"step": number, "label": f"relation {one} {relation} {other}", "norm": {"holds": holds}}
        label = f"mail to {step['mail_to']}" if "mail_to" in step else f"{step['method']} {step['path']}"
        try:
            answered = self.answer(step)
        except KeyError as missing:
            said = f"nothing captured for {missing}"
            return {"step": number, "label": step.get("path", "?"), "norm": {"error": said}}
        except (OSError, http.client.HTTPException) as error:
            return {"step": number, "label": label, "norm": {"error": f"{type(error).__name__}: {error}"}}
        for name, where in step.get("capture", {}).items():
            self.capture(name, where, answered)
        form = normal.answer(answered, self.names(), step.get("compare"))
        return {"step": number, "label": label, "norm": form, "raw": answered.raw()}

    def answer(self, step):
        if "mail_to" in step:
            return self.site.newest_mail(self.fill(step["mail_to"]))
        kind, body = self.body(step)
        headers = {"Accept": "*/*", "User-Agent": "counterfoil-conformance/1"}
        headers |= self.fill(step.get("headers", {}))
        if kind:
            headers.setdefault("Content-Type", kind)
        wire = {name: header(value) for name, value in headers.items() if value is not None}
        return self.site.ask(step["method"], self.fill(step["path"]), wire, body)

    def body(self, step):
        """The content type that a step's body has unless it says otherwise, and the body."""
        if "json" in step:
            return "application/json", json.dumps(self.fill(step["json"])).encode()
        if "form" in step:
            form = self.fill(step["form"])
            pairs = form.items() if isinstance(form, dict) else [tuple(pair) for pair in form]
            return "application/x-www-form-urlencoded", urllib.parse.urlencode(list(pairs)).encode()
        if "multipart" in step:
            lines = []
            for name, value in self.fill(step["multipart"]).items():
                lines += [f"--{BOUNDARY}", f'Content-Disposition: form-data; name="{name}"', "", value]
            lines += [f"--{BOUNDARY}--", ""]
            return f"multipart/form-data; boundary={BOUNDARY}", "\r\n".join(lines).encode()
        if "body" in step:
            return None, self.fill(step["body"]).encode()
        return None, base64.b64decode(step["body_b64"]) if "body_b64" in step else None

    def fill(self, value):
        """Puts values in for `{{name}}`; `{{int:name}}` alone becomes a number."""
        if isinstance(value, dict):
            return {self.fill(key): self.fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner) for inner in value]
        if not isinstance(value, str):
            return value
        if number := re.fullmatch(r"\{\{int:([^}]+)\}\}", value):
            return int(self.values[number[1]])
        return re.sub(r"\{\{([^}]+)\}\}", lambda name: str(self.values[name[1]]), value)

    def capture(self, name, where, answered):
        """Keeps a part of an answer; one that is not there shows in the step that needs it."""
        kind, _, path = where.partition(":")
        try:
            if kind == "json":
                value = part(json.loads(answered.body), path)
            elif kind == "header":
                value = answered.headers[path.lower()]
            else:
                text = answered.body.decode("utf-8", "replace")
                if "json" in answered.headers.get("content-type", ""):
                    text = text.replace("\\n", "\n")
                value = re.search(path, text)[1]
        except (ValueError, LookupError, TypeError, StopIteration):
            return
        self.values[name] = value
        self.captured[name] = value

    def names(self):
        """What chance chose, and the name that stands for it in the normal form."""
        names = {self.site.url.netloc: "<host>", self.values["uniq"]: "<uniq>"}
        for name, value in self.captured.items():
            if isinstance(value, str) and len(value) >= SHORTEST_NAME:
                names.setdefault(value, f"<{name}:{normal.shape(value)}>")
        return names


def header(value):
    """A header's bytes: text, or {"b64": …} for what is no text."""
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else str(value).encode()


def part(value, path):
    """A part of a JSON value: names and indexes between dots, `[key=text]` for the first element that has it."""
    for step in path.split("."):
        if chosen := re.fullmatch(r"\[(\w+)=(.*)\]", step):
            value = next(element for element in value if str(element.get(chosen[1])) == chosen[2])
        else:
            value = value[int(step)] if isinstance(value, list) else value[step]
    return value
