#!/usr/bin/env python3
"""TLS and tokens for the clusters of the tests: an authority, a certificate for loopback, tokens with each role, a password.

With TROUGH_TEST_SECURE=1, `harness` runs everything with them: see `Secure.environment`. For shell scripts (the demo):

    tests/lib/secure.py DIR     makes them in DIR and prints the environment as lines KEY=VALUE
"""

import hashlib
import json
import pathlib
import secrets
import ssl
import subprocess
import sys
import urllib.parse

ROLES = ("read", "write", "admin")


class Secure:
    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.ca, self.ca_key = self.dir / "ca.pem", self.dir / "ca.key"
        self.cert, self.key = self.dir / "cert.pem", self.dir / "key.pem"
        self.tokens_file = self.dir / "tokens.yml"
        openssl("req", "-x509", *KEY, "-keyout", self.ca_key, "-out", self.ca, "-days", "30", "-subj", "/CN=tests of trough",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        self.renew()
        self.password = "pw-" + secrets.token_hex(12)
        self.reader_password = "pw-reader-" + secrets.token_hex(12)
        self.tokens = {role: f"tk-{role}-" + secrets.token_hex(16) for role in ROLES}
        self.token_lines = {role: token_line(role, role, token) for role, token in self.tokens.items()}
        self.write_tokens()

    def renew(self):
        """A new certificate, put in place of the old one as a tool for that would."""
        request, cert, key, extensions = (self.dir / f"new.{end}" for end in ("csr", "pem", "key", "ext"))
        openssl("req", "-new", *KEY, "-keyout", key, "-out", request, "-subj", "/CN=trough")
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key, "-CAcreateserial", "-days", "20", "-out", cert,
                "-extfile", extensions)
        key.chmod(0o644)  # only of the tests
        cert.replace(self.cert)
        key.replace(self.key)

    def write_tokens(self):
        """Puts the file of tokens in its place."""
        new = self.tokens_file.with_suffix(".new")
        new.write_text("".join(line + "\n" for line in self.token_lines.values()))
        new.replace(self.tokens_file)

    def add_token(self, name, role, **more):
        token = f"tk-{name}-" + secrets.token_hex(16)
        self.token_lines[name] = token_line(name, role, token, **more)
        self.tokens[name] = token
        self.write_tokens()
        return token

    def environment(self):
        """What every daemon and the shell get."""
        settings = {"TLS_CERT": self.cert, "TLS_KEY": self.key, "TLS_CA": self.ca, "RETHINKDB_TLS": self.ca, "RETHINKDB_PASSWORD": self.password, "META_READER_PASSWORD": self.reader_password,
                    "TOKENS_FILE": self.tokens_file, "TOKEN": self.tokens["admin"]}
        return {f"TROUGH_{key}": str(value) for key, value in settings.items()}

    def context(self):
        return ssl.create_default_context(cafile=str(self.ca))

    def url(self, port, password=True):
        """The metadata's URL."""
        login = f"admin:{self.password}@" if password else ""
        return f"rethinkdb://{login}127.0.0.1:{port}/trough_configuration?tls={urllib.parse.quote(str(self.ca), safe='')}"


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def token_line(name, role, token, **more):
    return "- " + json.dumps({"name": name, "role": role, "token_sha256": hashlib.sha256(token.encode()).hexdigest(), **more})


def openssl(*args):
    done = subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"openssl {' '.join(map(str, args))}: {done.stderr}")


if __name__ == "__main__":
    made = Secure(pathlib.Path(sys.argv[1]).absolute())
    for key, value in {**made.environment(), "TROUGH_READ_TOKEN": made.tokens["read"]}.items():
        print(f"{key}={value}")
