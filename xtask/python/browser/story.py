"""One person's way through an account, in a real browser, with a real mail server: from registering to a reset.

Told by `cargo xtask browser`, which names the programs. Everything listens on free ports of this machine and is ended with
this script. It needs nothing but Python's own library: WebDriver is a little JSON over HTTP.
"""

import argparse
import contextlib
import email
import email.policy
import functools
import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
PATIENCE = 60.0
FIRST, SECOND, THIRD = "thirty lighthouses at dusk", "a harbour full of paper boats", "seven umbrellas in the attic"
ADDRESS = "ada@example.org"


def soon(what, look):
    """What `look` returns as soon as it is true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE:.0f} s: {what}")


def ask(method, url, body=None, token=None):
    """Status and JSON of an answer, as a program gets it that is no browser: another device of the same person."""
    headers = {"Content-Type": "application/json", "User-Agent": "another device"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=30) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as refused:
        text = refused.read()
        return refused.code, json.loads(text) if text else None


class Browser:
    """Chromium without a window, spoken to by the W3C WebDriver protocol."""

    ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

    def __init__(self, driver, language):
        self.driver = driver
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
                   "prefs": {"intl.accept_languages": language}}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self.session = self.call("POST", "/session", {"capabilities": capabilities}, of_session=False)["sessionId"]
        self.wait_for_elements(PATIENCE)

    def wait_for_elements(self, seconds):
        """A click is done before the page that it asks for is there."""
        self.call("POST", "/timeouts", {"implicit": int(seconds * 1000)})

    def call(self, method, path, body=None, of_session=True):
        url = self.driver + (f"/session/{self.session}" if of_session else "") + path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=2 * PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{method} {path}: {json.load(refused)['value']['message']}") from None

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def url(self):
        return self.call("GET", "/url")

    def text(self):
        return self.call("GET", f"/element/{self.find('body')}/text")

    def find(self, selector):
        return self.call("POST", "/element", {"using": "css selector", "value": selector})[self.ELEMENT]

    def lacks(self, selector):
        """Whether the page, which is there, has no such element now."""
        self.find("h1")
        self.wait_for_elements(0)
        found = self.call("POST", "/elements", {"using": "css selector", "value": selector})
        self.wait_for_elements(PATIENCE)
        return not found

    def type(self, selector, text):
        element = self.find(selector)
        self.call("POST", f"/element/{element}/clear", {})
        self.call("POST", f"/element/{element}/value", {"text": text})

    def click(self, selector):
        self.call("POST", f"/element/{self.find(selector)}/click", {})

    def says(self, text):
        soon(f"{text!r} in {self.url()}", lambda: text in self.text())

    def end(self):
        self.call("DELETE", "")


class Mailbox:
    """What the mail server has taken, in the order in which it came."""

    def __init__(self, directory):
        self.directory = directory
        self.read = 0

    def next(self):
        path = self.directory / f"{self.read + 1:04}.eml"
        soon(f"mail {self.read + 1}", path.exists)
        self.read += 1
        mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        return mail["To"], mail["Subject"], mail.get_body(("plain",)).get_content()

    def link(self, base):
        """The link in the next mail."""
        to, subject, text = self.next()
        assert to == ADDRESS, to
        links = re.findall(rf"{re.escape(base)}/\S+", text)
        assert len(links) == 1, (subject, text)
        return links[0]


def first_line(process, what):
    line = process.stdout.readline().strip()
    assert line, f"{what} said nothing and ended with {process.poll()}"
    return line


def begin(stack, command, **more):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, **more)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


class App(http.server.SimpleHTTPRequestHandler):
    """The page of the app, whatever the path."""

    def do_GET(self):
        page = HERE.joinpath("app.html").read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_):
        pass


def configuration(base, app, smtp):
    return f"""
base_url = "{base}"
site = "An app"

[accounts]
registration = "anybody"
unconfirmed = "wait"

[links]
next = ["{app}/welcome"]

[http]
cors_origins = ["{app}"]

[mail]
transport = "smtp"
from = "An app <accounts@example.org>"

[smtp]
host = "127.0.0.1"
port = {smtp}
security = "none"
"""


def serve(stack, options, settings, listener):
    """Starts the server on a socket that is bound already, as systemd hands one over: its port is known before, and nobody
    else can take it."""
    def hand_over():
        os.dup2(listener.fileno(), 3)

    command = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "serve", options.program, "serve", "--config", settings,
               "--listen", "systemd", "--data-dir", settings.parent / "data"]
    first_line(begin(stack, command, preexec_fn=hand_over, close_fds=False), "the server")


def tell(options, stack):
    scratch = pathlib.Path(options.scratch)
    letters = scratch / "letters"
    letters.mkdir()
    smtp = begin(stack, [options.python, options.smtp_server, letters])
    port = first_line(smtp, "the mail server")

    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), App)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    stack.callback(pages.shutdown)
    app = f"http://127.0.0.1:{pages.server_port}"

    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    settings = scratch / "counterfoil.toml"
    settings.write_text(configuration(base, app, port))
    serve(stack, options, settings, listener)

    driver = begin(stack, [options.chromedriver, "--port=0"])
    port = soon("a driver", lambda: re.search(r"successfully on port (\d+)", driver.stdout.readline()))[1]
    threading.Thread(target=functools.partial(list, driver.stdout), daemon=True).start()
    browser = Browser(f"http://127.0.0.1:{port}", "de,en")
    stack.callback(browser.end)
    mailbox = Mailbox(letters)

    print("register")
    browser.open(f"{app}/?server={base}")
    browser.type("#username", "ada")
    browser.type("#email", ADDRESS)
    browser.type("#password", FIRST)
    browser.click("#register")
    browser.says("/v1/register 202 proof-asked")
    browser.click("#login")
    browser.says("/v1/login 401")

    print("confirm, by the link in the mail")
    link = mailbox.link(base)
    # What scanners of mail do changes nothing.
    for _ in range(2):
        assert urllib.request.urlopen(link, timeout=30).status == 200
    browser.open(link)
    browser.says(ADDRESS)
    assert browser.find('html[lang="de"]'), "in the language that the browser asks for"
    assert ask("POST", f"{base}/v1/login", {"username": "ada", "password": FIRST})[0] == 401, "nothing is confirmed yet"
    browser.type("[name=password]", FIRST)
    browser.click("[type=submit]")
    soon("the page that the link leads on to", lambda: browser.url() == f"{app}/welcome")

    print("log in, here and on another device")
    browser.type("#username", ADDRESS)
    browser.type("#password", FIRST)
    browser.click("#login")
    browser.says("/v1/login 200")
    status, other = ask("POST", f"{base}/v1/login", {"username": "ada", "password": FIRST, "name": "the other one"})
    assert status == 200, other
    browser.click("#devices")
    browser.says("the other one")
    browser.says("the browser (this one)")
    to, subject, text = mailbox.next()
    assert "another device" in text, (subject, text)

    print("change the password: the other device is signed out, this one is not")
    browser.type("#new_password", SECOND)
    browser.click("#change")
    browser.says("/v1/password/change 204")
    assert ask("GET", f"{base}/v1/me", token=other["token"])[0] == 401
    browser.click("#devices")
    browser.says("the browser (this one)")
    assert "the other one" not in browser.text()
    mailbox.next()

    print("forget it, and choose another by the link in the mail: every device is signed out")
    browser.open(f"{base}/password/forgot")
    browser.type("[name=email]", ADDRESS)
    browser.click("[type=submit]")
    link = mailbox.link(base)
    browser.open(link)
    browser.type("[name=new_password]", "short")
    browser.click("[type=submit]")
    assert browser.find("[name=new_password][aria-invalid=true]"), "told beside the field"
    browser.type("[name=new_password]", THIRD)
    browser.click("[type=submit]")
    soon("the new password to open the account",
         lambda: ask("POST", f"{base}/v1/login", {"username": "ada", "password": THIRD})[0] == 200)
    assert ask("POST", f"{base}/v1/login", {"username": "ada", "password": SECOND})[0] == 401
    browser.open(f"{app}/")
    browser.click("#devices")
    browser.says("/v1/tokens 401")
    browser.open(link)
    assert browser.lacks("[name=new_password]"), "used up"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("program", "python", "smtp-server", "chromedriver", "scratch"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        tell(options, stack)
    print("browser: told to its end")


main()
