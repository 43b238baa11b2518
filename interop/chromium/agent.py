"""Chromium behind the JSON lines of `nilas agent`, so that one runner can pair the two.

Debian's chromium without a window, driven over its debugging pipe; `agent.js` runs in its page and does what a web
application would. Only ICE takes part: the fingerprint that it is given is made up, so DTLS never ends, and `send` is
answered with an error event.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-pipe""".split()

speaking = threading.Lock()


def say(text):
    with speaking:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def complain(message):
    say(json.dumps({"ev": "error", "msg": message}))


class Browser:
    """A browser with one page, in which `agent.js` runs."""

    def __init__(self, mdns, tcp):
        self.directory = tempfile.mkdtemp(prefix="chromium-")
        flags = FLAGS + [f"--user-data-dir={self.directory}"]
        if not mdns:
            flags.append("--disable-features=WebRtcHideLocalIpsWithMdns")
        if tcp:
            flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        # It reads commands from descriptor 3 and writes to 4.
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in (theirs_in, theirs_out)]
        self.process = subprocess.Popen(
            ["chromium", *flags, "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=lambda: (os.dup2(high[0], 3), os.dup2(high[1], 4)),
            # So that it finds no desktop to talk to, and leaves nothing behind.
            env={
                **os.environ,
                "HOME": self.directory,
                "TMPDIR": self.directory,
                "DBUS_SESSION_BUS_ADDRESS": "disabled:",
            },
            # Its processes end with it.
            start_new_session=True,
        )
        for descriptor in (theirs_in, theirs_out, *high):
            os.close(descriptor)
        self.out = os.fdopen(ours_out, "wb", buffering=0)
        self.messages = self.read(os.fdopen(ours_in, "rb", buffering=0))
        self.number = 0
        self.session = None
        self.session = self.attach()
        if tcp:
            self.open_file()
        self.ask("Runtime.addBinding", name="say")
        with open(os.path.join(os.path.dirname(__file__), "agent.js"), encoding="utf-8") as script:
            self.ask("Runtime.evaluate", expression=script.read())
        threading.Thread(target=self.listen, daemon=True).start()

    def read(self, pipe):
        rest = b""
        while chunk := pipe.read(1 << 16):
            *messages, rest = (rest + chunk).split(b"\0")
            yield from map(json.loads, messages)

    def attach(self):
        # There may be none yet.
        while not (pages := [target for target in self.ask("Target.getTargets")["targetInfos"] if target["type"] == "page"]):
            time.sleep(0.05)
        page = pages[0]["targetId"]
        return self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]

    def open_file(self):
        """TCP candidates are gathered only for a page that may use the microphone, which a file may ask for."""
        page = os.path.join(self.directory, "page.html")
        with open(page, "w", encoding="utf-8") as file:
            file.write("<!DOCTYPE html><title>agent</title>")
        self.ask("Page.navigate", url=f"file://{page}")
        state = "location.protocol + document.readyState"
        while self.ask("Runtime.evaluate", expression=state)["result"].get("value") != "file:complete":
            time.sleep(0.05)

    def tell(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.out.write(json.dumps(message).encode() + b"\0")

    def ask(self, method, **parameters):
        """Only before `listen`."""
        self.tell(method, **parameters)
        for message in self.messages:
            if message.get("id") == self.number:
                if "error" in message or "exceptionDetails" in message["result"]:
                    raise RuntimeError(json.dumps(message))
                return message["result"]
        raise RuntimeError("chromium ended")

    def listen(self):
        for message in self.messages:
            if message.get("method") == "Runtime.bindingCalled":
                say(message["params"]["payload"])
            elif "exceptionDetails" in message.get("result", {}):
                complain(json.dumps(message["result"]["exceptionDetails"]))
        complain("chromium ended")

    def end(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        # What one of its processes had under way may still come.
        for _ in range(50):
            shutil.rmtree(self.directory, ignore_errors=True)
            if not os.path.exists(self.directory):
                return
            time.sleep(0.02)


browser = None
try:
    for line in sys.stdin:
        try:
            command = json.loads(line)
            if command["cmd"] == "start":
                browser = Browser(command.get("mdns", False), command.get("tcp", False))
            if command["cmd"] == "close":
                say(json.dumps({"ev": "state", "state": "closed"}))
                break
            browser.tell("Runtime.evaluate", expression=f"take({json.dumps(command)})")
        except (ValueError, KeyError, AttributeError, RuntimeError, OSError) as error:
            complain(f"{type(error).__name__}: {error}")
finally:
    if browser:
        browser.end()
