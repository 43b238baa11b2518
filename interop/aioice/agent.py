"""aioice behind the JSON lines of `nilas agent`, so that one runner can pair the two.

Reads commands from standard input, writes events to standard output. What aioice cannot do (a restart, removing a
candidate) is answered with an error event.
"""

import asyncio
import json
import sys

import aioice


def say(event, **fields):
    sys.stdout.write(json.dumps({"ev": event, **fields}) + "\n")
    sys.stdout.flush()


def host_and_port(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


class Agent:
    def __init__(self):
        self.connection = None
        self.connecting = None
        self.receiving = None

    async def command(self, line):
        """Carries out one command. False ends the program."""
        try:
            fields = json.loads(line)
            name = fields["cmd"]
            carry_out = getattr(self, "on_" + name, None)
            if carry_out is None:
                say("error", msg=f"aioice has no {name}")
                return True
            return await carry_out(fields) is not False
        except (ValueError, KeyError, TypeError) as error:
            say("error", msg=f"{type(error).__name__}: {error}")
            return True

    async def on_start(self, fields):
        for option in ("iceServers", "lite", "mdns", "tcp", "interfaces"):
            if fields.get(option):
                say("error", msg=f"this driver of aioice has no {option}")
        stun, turn = fields.get("stun"), fields.get("turn")
        relay = {
            "turn_server": (turn["host"], turn["port"]),
            "turn_username": turn["user"],
            "turn_password": turn["pass"],
            "turn_transport": turn["transport"],
        } if turn else {}
        self.connection = aioice.Connection(
            ice_controlling=fields["controlling"],
            stun_server=host_and_port(stun) if stun else None,
            transport_policy=aioice.TransportPolicy.RELAY if fields.get("relayOnly") else aioice.TransportPolicy.ALL,
            **relay,
        )
        say("state", state="new")
        # aioice gathers everything before it tells anything.
        await self.connection.gather_candidates()
        ufrag = self.connection.local_username
        say("params", ufrag=ufrag, pwd=self.connection.local_password)
        for candidate in self.connection.local_candidates:
            say("candidate", candidate=f"candidate:{candidate.to_sdp()} ufrag {ufrag}")
        say("eoc")

    async def on_remote(self, fields):
        if self.connecting is not None:
            say("error", msg="aioice has no restart")
            return
        self.connection.remote_username = fields["ufrag"]
        self.connection.remote_password = fields["pwd"]
        self.connection.remote_is_lite = fields.get("lite", False)
        self.connecting = asyncio.create_task(self.connect())

    async def on_candidate(self, fields):
        line = fields["candidate"].removeprefix("candidate:")
        await self.connection.add_remote_candidate(aioice.Candidate.from_sdp(line))

    async def on_eoc(self, _):
        await self.connection.add_remote_candidate(None)

    async def on_send(self, fields):
        try:
            await self.connection.send(fields["data"].encode())
        except ConnectionError as error:
            say("error", msg=str(error))

    async def on_close(self, _):
        await self.end()
        say("state", state="closed")
        return False

    async def connect(self):
        say("state", state="checking")
        try:
            await self.connection.connect()
        except ConnectionError:
            say("state", state="failed")
            return
        # aioice has no public name for the pair it selected.
        pair = self.connection._nominated[1]
        say(
            "selected",
            local=f"candidate:{pair.local_candidate.to_sdp()}",
            remote=f"candidate:{pair.remote_candidate.to_sdp()}",
        )
        say("state", state="connected")
        self.receiving = asyncio.create_task(self.receive())

    async def receive(self):
        while True:
            try:
                say("data", data=(await self.connection.recv()).decode(errors="replace"))
            except ConnectionError:
                say("state", state="disconnected")
                return

    async def end(self):
        for task in (self.connecting, self.receiving):
            if task is not None:
                task.cancel()
        if self.connection is not None:
            await self.connection.close()


async def main():
    agent = Agent()
    commands = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        if not await agent.command(line):
            return
    await agent.end()


asyncio.run(main())
