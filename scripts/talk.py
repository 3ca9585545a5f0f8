#!/usr/bin/env python3
"""Members of one room that keep talking while something is done to the servers, and what they saw of it.

    scripts/talk.py --url ws://HOST:PORT/ws          until SIGTERM, or for --seconds
    scripts/talk.py --pods NAMESPACE SELECTOR        the same, to pods of a cluster, each member to another, by kubectl

Each says something all the time, sends again what has no ack, and comes back with its last position when its connection
ends, as docs/protocol.md wants it. At the end each is held against all that was acknowledged: what it did not get and
was not told of is lost, what it got twice is doubled; either ends the program with 1. It needs nothing but Python.
"""

import argparse
import asyncio
import base64
import json
import os
import random
import signal
import struct
import sys
import time
import urllib.parse


class Socket:
    """A WebSocket client with just what this program needs."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, url):
        parts = urllib.parse.urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in answer.split(b"\r\n")[0]:
            writer.close()
            raise ConnectionError(answer.split(b"\r\n")[0].decode())
        return cls(reader, writer)

    def frame(self, opcode, data):
        head = bytes([0x80 | opcode])
        if len(data) < 126:
            head += bytes([0x80 | len(data)])
        else:
            head += bytes([0x80 | 126]) + struct.pack("!H", len(data))
        mask = os.urandom(4)
        self.writer.write(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)))

    def send(self, command):
        self.frame(1, json.dumps(command).encode())

    async def next(self):
        while True:
            first, length = await self.reader.readexactly(2)
            if length == 126:
                (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
            data = await self.reader.readexactly(length)
            if first & 15 == 1:
                return json.loads(data)
            if first & 15 == 8:
                raise ConnectionError(f"closed with {struct.unpack('!H', data[:2])[0] if data else 'no code'}")
            if first & 15 == 9:
                self.frame(10, data)


class Url:
    """Every connection goes to the same address, as behind a load balancer."""

    def __init__(self, url):
        self.url = url

    async def connect(self):
        return await Socket.connect(self.url)


class Pods:
    """Every connection goes to another pod, through a port that kubectl forwards: that works from outside any cluster."""

    def __init__(self, namespace, selector):
        self.kubectl = ["kubectl", "--namespace", namespace]
        self.selector = selector

    async def run(self, *command):
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*self.kubectl, *command, stdout=pipe, stderr=asyncio.subprocess.DEVNULL)

    async def connect(self):
        get = await self.run("get", "pods", "--selector", self.selector, "--output", "json")
        pods = json.loads((await get.communicate())[0] or '{"items": []}')["items"]

        def serves(pod):
            ready = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", [])}.get("Ready")
            return ready == "True" and "deletionTimestamp" not in pod["metadata"]

        names = [pod["metadata"]["name"] for pod in pods if serves(pod)]
        if not names:
            raise ConnectionError("no pod is ready")
        forward = await self.run("port-forward", f"pod/{random.choice(names)}", ":8080")
        try:
            line = (await asyncio.wait_for(forward.stdout.readline(), 10)).decode()
            socket = await Socket.connect(f"ws://{line.split(' -> ')[0].rpartition(' ')[2]}/ws")
        except BaseException:
            forward.kill()
            raise
        socket.forward = forward
        return socket


class Member:
    def __init__(self, room, name, door, period):
        self.room, self.name, self.door, self.period = room, name, door, period
        self.position = None  # The last of the room that this member knows.
        self.spans = []  # [epoch, after, up to]: where it was promised every message.
        self.got = []  # (epoch, seq, id) of each message, in the order of their coming.
        self.acked = {}  # id -> (epoch, seq)
        self.waiting = []  # What it has said and has no ack for.
        self.said = 0
        self.connections = 0
        self.resets = []
        self.errors = 0
        self.servers = set()
        self.silence = 0.0
        self.heard_at = None
        self.talking = True
        self.refused = False

    async def live(self):
        bound = 1.0
        while True:
            socket = speaking = None
            try:
                socket = await asyncio.wait_for(self.door.connect(), 15)
                join = {"type": "join", "room": self.room, "username": self.name}
                if self.position:
                    join["after"] = {"epoch": self.position[0], "seq": self.position[1]}
                socket.send(join)
                while True:
                    # The server pings more often than that.
                    event = await asyncio.wait_for(socket.next(), 60)
                    if event["type"] == "joined":
                        bound = 1.0
                        speaking = asyncio.create_task(self.speak(socket))
                    elif event["type"] == "error" and event.get("id") is None:
                        raise ConnectionError(event["code"])
                    self.take(event)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, IndexError, ValueError):
                await asyncio.sleep(random.random() * bound)
                bound = min(2 * bound, 8)
            finally:
                if speaking:
                    speaking.cancel()
                if socket:
                    socket.writer.close()
                    if forward := getattr(socket, "forward", None):
                        forward.kill()

    async def speak(self, socket):
        """One message at a time; one without an ack is said again, under its old id."""
        while True:
            if not self.waiting and self.talking:
                self.said += 1
                self.waiting.append(f"{self.room}-{self.name}-{self.said}")
            for message in self.waiting[:1]:
                socket.send({"type": "message", "room": self.room, "text": message, "id": message})
                until = time.monotonic() + 5
                while message in self.waiting and time.monotonic() < until and not self.refused:
                    await asyncio.sleep(0.005)
                self.refused = False
            await asyncio.sleep(self.period)

    def take(self, event):
        kind, place = event["type"], (event.get("epoch"), event.get("seq"))
        if kind == "joined":
            self.connections += 1
            if self.position is None:
                self.spans.append([place[0], place[1], None])
                self.position = place
            # After a resume the promise goes on from where it was, or a reset says that it does not.
        elif kind == "message":
            now = time.monotonic()
            if self.heard_at is not None:
                self.silence = max(self.silence, now - self.heard_at)
            self.heard_at = now
            self.got.append((*place, event.get("id")))
            self.servers.add(event["originServer"])
            self.position = place
        elif kind == "reset":
            self.resets.append(event["reason"])
            self.spans[-1][2] = self.position[1]
            self.spans.append([*place, None])
            self.position = place
        elif kind == "ack":
            self.acked[event["id"]] = place
            if event["id"] in self.waiting:
                self.waiting.remove(event["id"])
        elif kind == "error":
            self.errors += 1
            self.refused = True


def judge(members):
    """What each member lost, got twice and got in another order than the numbers say."""
    acked = {id_: place for member in members for id_, place in member.acked.items()}
    lost, doubled, disorder, told = [], [], [], 0
    for member in members:
        places = [(epoch, seq) for epoch, seq, _ in member.got]
        got = set(places)
        seen = set()
        for epoch, _, id_ in member.got:
            if (epoch, id_) in seen:
                doubled.append((member.name, id_))
            seen.add((epoch, id_))
        for before, after in zip(places, places[1:]):
            if before[0] == after[0] and after[1] <= before[1]:
                disorder.append((member.name, before, after))
        for id_, (epoch, seq) in acked.items():
            if (epoch, seq) in got:
                continue
            first = member.spans[0]
            if epoch == first[0] and seq <= first[1]:
                continue  # It was said before this member came.
            promised = [s for s in member.spans if s[0] == epoch and seq > s[1] and (s[2] is None or seq <= s[2])]
            if promised:
                lost.append((member.name, id_, (epoch, seq)))
            else:
                told += 1
    return acked, lost, doubled, disorder, told


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url")
    parser.add_argument("--pods", nargs=2, metavar=("NAMESPACE", "SELECTOR"))
    parser.add_argument("--members", type=int, default=6)
    parser.add_argument("--period", type=float, default=0.1, help="seconds between two messages of a member")
    parser.add_argument("--seconds", type=float, default=3600)
    arguments = parser.parse_args()
    if bool(arguments.url) == bool(arguments.pods):
        parser.error("give either --url or --pods")
    door = Url(arguments.url) if arguments.url else Pods(*arguments.pods)

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    room = f"talk-{os.urandom(6).hex()}"
    members = [Member(room, f"member-{n}", door, arguments.period) for n in range(arguments.members)]
    lives = [asyncio.create_task(member.live()) for member in members]
    began = time.monotonic()
    while not all(member.connections for member in members):
        if time.monotonic() - began > 60:
            sys.exit("talk.py: not every member could join within a minute")
        await asyncio.sleep(0.05)
    print("talking", flush=True)
    try:
        await asyncio.wait_for(stop.wait(), arguments.seconds)
    except asyncio.TimeoutError:
        pass

    # Silence, until everything has its ack and everybody has had the last message.
    for member in members:
        member.talking = False
    until = time.monotonic() + 60
    while any(member.waiting for member in members) and time.monotonic() < until:
        await asyncio.sleep(0.05)
    until = time.monotonic() + 15
    while len({member.position for member in members}) > 1 and time.monotonic() < until:
        await asyncio.sleep(0.05)
    for life in lives:
        life.cancel()
    await asyncio.gather(*lives, return_exceptions=True)

    acked, lost, doubled, disorder, told = judge(members)
    waiting = sum(len(member.waiting) for member in members)
    back = sum(member.connections - 1 for member in members)
    print(
        f"{len(acked)} messages acknowledged by {len(set().union(*(m.servers for m in members)))} servers; each of "
        f"{len(members)} members: {len(lost)} lost, {len(doubled)} doubled, {len(disorder)} out of order, "
        f"{told} told of by {sum(len(m.resets) for m in members)} resets; {waiting} never acknowledged; came back {back} "
        f"times; {sum(m.errors for m in members)} refused for a while; longest silence {max(m.silence for m in members):.1f} s"
    )
    for what in [*lost[:5], *doubled[:5], *disorder[:5]]:
        print("   ", what)
    sys.exit(1 if lost or doubled or disorder or waiting or not acked else 0)


if __name__ == "__main__":
    asyncio.run(main())
