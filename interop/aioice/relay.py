"""Two allocations of aioice's TURN client on one server: what the first sends, the second sends back.

Usage: relay.py HOST PORT USER PASSWORD udp|tcp|tls
"""

import asyncio
import sys

from aioice import turn

COUNT = 20


KNOCK = b"let me through"
HELLO = b"there and back"


class Near(asyncio.DatagramProtocol):
    def __init__(self):
        self.open = asyncio.Event()
        self.back = set()
        self.all_back = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        if data == HELLO:
            self.open.set()
        elif data != KNOCK:
            self.back.add(data)
        if len(self.back) == COUNT and not self.all_back.done():
            self.all_back.set_result(None)


class Far(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


async def main(host, port, user, password, transport):
    async def allocate(protocol):
        return await turn.create_turn_endpoint(
            protocol,
            server_addr=(host, int(port)),
            username=user,
            password=password,
            ssl=transport == "tls",
            transport="udp" if transport == "udp" else "tcp",
        )

    near, protocol = await allocate(Near)
    far, _ = await allocate(Far)
    addresses = [end.get_extra_info("sockname") for end in (near, far)]
    # Each lets the other through before anything is sent that counts: until one has been there and back.
    while not protocol.open.is_set():
        far.sendto(KNOCK, addresses[0])
        near.sendto(HELLO, addresses[1])
        await asyncio.sleep(0.05)
    for number in range(COUNT):
        near.sendto(b"%d" % number, addresses[1])
        await asyncio.sleep(0.01)
    try:
        await asyncio.wait_for(protocol.all_back, 10)
    except asyncio.TimeoutError:
        pass
    print(f"{len(protocol.back)} of {COUNT} came back")
    for end in (near, far):
        end.close()
    await asyncio.sleep(0.2)


asyncio.run(main(*sys.argv[1:]))
