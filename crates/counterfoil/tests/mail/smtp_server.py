"""A mail server for tests: aiosmtpd, told on the command line what to offer and by the addresses it is given what to do.

It listens on any free port of 127.0.0.1, says which on stdout, keeps every mail as NUMBER.eml, with its envelope in
NUMBER.json, and ends with its stdin.

What an address begins with decides what becomes of a mail to it:
  never-     550 to RCPT              later-     451 to RCPT         relay-     554 5.7.1 to RCPT
  unwanted-  554 to the mail itself   full-      452 to the mail     echo-      554 with the first link of the mail
  slow-      no answer to the mail for ten minutes
"""

import argparse
import asyncio
import json
import os
import pathlib
import re
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

AT_RCPT = {
    "never-": "550 5.1.1 nobody of that name",
    "later-": "451 4.7.1 greylisted, try again later",
    "relay-": "554 5.7.1 relay access denied",
}
AT_DATA = {"unwanted-": "554 5.6.0 not here", "full-": "452 4.3.1 the disk is full"}


class Keeper:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.number = 0

    async def handle_MAIL(self, server, session, envelope, address, mail_options):
        if address.startswith("refused-"):
            return "550 5.7.1 you may not write as that"
        envelope.mail_from = address
        envelope.mail_options.extend(mail_options)
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        for beginning, answer in AT_RCPT.items():
            if address.startswith(beginning):
                return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        [address] = envelope.rcpt_tos
        for beginning, answer in AT_DATA.items():
            if address.startswith(beginning):
                return answer
        if address.startswith("echo-"):
            link = re.search(rb"https://\S+", envelope.content).group().decode()
            return f"554 5.7.1 {link} is on a list of bad links"
        if address.startswith("slow-"):
            await asyncio.sleep(600)
        self.number += 1
        told = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "options": envelope.mail_options,
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "login": session.auth_data,
            "peer": session.peer[1],
            "name": session.host_name,
        }
        # The mail last, so that whoever sees it finds its envelope.
        self.directory.joinpath(f"{self.number:04}.json").write_text(json.dumps(told))
        draft = self.directory.joinpath("draft")
        draft.write_bytes(envelope.content)
        draft.rename(self.directory.joinpath(f"{self.number:04}.eml"))
        return "250 OK"


class Meddler(SMTP):
    """As it looks where somebody on the way puts an answer in before TLS begins."""

    async def push(self, status):
        await super().push(status + "\r\n250 put in" if "Ready to start TLS" in str(status) else status)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--certificate", nargs=2, metavar=("CERTIFICATE", "KEY"))
    parser.add_argument("--tls-from-the-start", action="store_true")
    parser.add_argument("--login", nargs=2, metavar=("USERNAME", "PASSWORD"))
    parser.add_argument("--no-smtputf8", action="store_true")
    parser.add_argument("--meddled-with", action="store_true", help="an answer is put in before TLS begins")
    parser.add_argument("--silent", action="store_true", help="take connections and say nothing")
    options = parser.parse_args()

    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*options.certificate)
    wrapped = options.tls_from_the_start

    def authenticate(server, session, envelope, mechanism, login):
        told = [login.login.decode(), login.password.decode()]
        return AuthResult(success=told == options.login, handled=False, auth_data=told[0])

    keeper = Keeper(options.directory)

    def serve():
        if options.silent:
            return asyncio.Protocol()
        return (Meddler if options.meddled_with else SMTP)(
            keeper,
            tls_context=None if wrapped else context,
            require_starttls=context is not None and not wrapped,
            authenticator=authenticate if options.login else None,
            auth_required=options.login is not None,
            auth_require_tls=context is not None and not wrapped,
            enable_SMTPUTF8=not options.no_smtputf8,
            decode_data=False,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(serve, "127.0.0.1", 0, ssl=context if wrapped else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    # Without waiting for whoever is being answered slowly.
    os._exit(0)


asyncio.run(main())
