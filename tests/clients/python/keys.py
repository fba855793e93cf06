"""The key cache through grpcio, with no channel option set.

keys.py AGENT_SOCK, with the generated stubs on PYTHONPATH and on stdin a JSON
object of two keys in hexadecimal and a live session:

    there       what another client keeps under "there"
    kept        to be left under "kept" for another client
    session_id, handle

Seals and opens keys as the comment of keycache.proto has it. Prints "ok" when
every step answered what it must.
"""

import itertools
import json
import os
import sys
import time

import grpc
from answers import bad_fields, expect, refused
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from episoded.keycache.v1 import keycache_pb2 as pb
from episoded.keycache.v1 import keycache_pb2_grpc
from google.protobuf import duration_pb2, timestamp_pb2

ONE_HOUR = 3600
LONGEST_KEY = 65_536


class Agreement:
    """The client's side before the server has answered."""

    def __init__(self):
        self.private = X25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes_raw()

    def channel(self, answer):
        """The channel that an OpenChannel or a GetKey has opened."""
        server = answer.server_public_key
        shared = self.private.exchange(X25519PublicKey.from_public_bytes(server))
        info = b"episoded.keycache.v1" + self.public + server
        keys = HKDF(algorithm=SHA256(), length=64, salt=None, info=info).derive(shared)
        return Channel(answer.channel_id, keys)


class Channel:
    """Seals what this client sends, and opens what the server does."""

    def __init__(self, channel_id, keys):
        self.id = channel_id
        self.seals, self.opens = ChaCha20Poly1305(keys[:32]), ChaCha20Poly1305(keys[32:])
        self.counters = itertools.count()
        self.seen = set()

    @staticmethod
    def nonce(counter):
        return bytes(4) + counter.to_bytes(8, "little")

    def seal(self, lockbox_id, key):
        counter = next(self.counters)
        sealed = self.seals.encrypt(self.nonce(counter), key, b"put\0" + lockbox_id.encode())
        return {"channel_id": self.id, "counter": counter, "lockbox_id": lockbox_id, "sealed_key": sealed}

    def open(self, lockbox_id, answer):
        expect(answer.hit, f"{lockbox_id} is there")
        expect(answer.counter not in self.seen, f"counter {answer.counter} is new")
        self.seen.add(answer.counter)
        about = b"get\0" + lockbox_id.encode()
        return self.opens.decrypt(self.nonce(answer.counter), answer.sealed_key, about)


class Keys:
    """Puts and gets, over a channel of its own."""

    def __init__(self, stub, metadata=()):
        self.stub = stub
        self.metadata = metadata
        agreement = Agreement()
        request = pb.OpenChannelRequest(client_public_key=agreement.public)
        self.channel = agreement.channel(stub.OpenChannel(request, metadata=metadata))

    def put(self, lockbox_id, key, **others):
        self.stub.PutKey(pb.PutKeyRequest(**self.channel.seal(lockbox_id, key), **others))

    def answer(self, lockbox_id):
        request = pb.GetKeyRequest(channel_id=self.channel.id, lockbox_id=lockbox_id)
        return self.stub.GetKey(request, metadata=self.metadata)

    def get(self, lockbox_id):
        return self.channel.open(lockbox_id, self.answer(lockbox_id))

    def misses(self, lockbox_id):
        answer = self.answer(lockbox_id)
        return not answer.hit and answer.sealed_key == b"" and answer.counter == 0


def put_and_get(keys):
    """Keys of every kind of length come back byte for byte."""
    for length in (1, 32, 4_096, LONGEST_KEY):
        key = os.urandom(length)
        keys.put("büx", key, path="/tmp/box", ttl=duration_pb2.Duration(seconds=ONE_HOUR))
        expect(keys.get("büx") == key, f"{length} bytes come back")
        expect(keys.get("büx") == key, f"{length} bytes come back again")
    answer = keys.answer("büx")
    try:
        keys.channel.open("box", answer)
        raise SystemExit("not so: a key is sealed for its lockbox alone")
    except InvalidTag:
        pass


def get_in_one_call(stub, keys):
    """A channel opened by the GetKey that it is for, on a miss too, is good for more."""
    key = os.urandom(32)
    keys.put("one call", key)
    for lockbox_id, hit in (("one call", True), ("nobody's", False)):
        agreement = Agreement()
        answer = stub.GetKey(pb.GetKeyRequest(lockbox_id=lockbox_id, client_public_key=agreement.public))
        expect(answer.hit == hit, f"{lockbox_id} is there: {hit}")
        channel = agreement.channel(answer)
        expect(channel.id not in (0, keys.channel.id), f"{channel.id} is another channel")
        if hit:
            expect(channel.open(lockbox_id, answer) == key, "it comes with the channel")
        again = stub.GetKey(pb.GetKeyRequest(channel_id=channel.id, lockbox_id="one call"))
        expect(channel.open("one call", again) == key, "the channel stays open")


def listed(stub):
    """Everything that is kept, by id, from pages of two."""
    page_token, found = "", []
    while True:
        page = stub.ListKeys(pb.ListKeysRequest(page_size=2, page_token=page_token))
        found += page.keys
        page_token = page.next_page_token
        if not page_token:
            return {key.lockbox_id: key for key in found}


def list_and_forget(stub, keys):
    before = listed(stub)
    expect(set(before) == {"büx", "kept", "one call", "there", "unwanted"}, f"all are listed in {set(before)}")
    box = before["büx"]
    expect((box.path, box.hits) == ("/tmp/box", 3), f"path and hits of {box}")
    expect(box.expiry == pb.EXPIRY_SLIDING, f"expiry of {box}")
    expect(0 < box.remaining.seconds <= ONE_HOUR and not box.HasField("owner"), f"time left of {box}")
    for which in ({"lockbox_id": "one call"}, {"path": "/tmp/box"}, {"lockbox_id": "unwanted"}):
        forgotten = stub.ForgetKey(pb.ForgetKeyRequest(**which)).forgotten
        expect(forgotten == 1, f"{which} was one key")
        forgotten = stub.ForgetKey(pb.ForgetKeyRequest(**which)).forgotten
        expect(forgotten == 0, f"{which} is none any more")
    expect(keys.misses("büx") and keys.misses("one call"), "what was forgotten is missed")
    expect(set(listed(stub)) == {"kept", "there"}, "the others are left")


def refusals(stub, keys):
    """What is wrong is told by a reason, and named."""
    invalid, precondition = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
    good = keys.channel.seal("refused", b"key")
    for spoiled, field in (
        ({"lockbox_id": "another"}, "sealed_key"),
        ({"counter": good["counter"] + 1}, "sealed_key"),
        ({"lockbox_id": ""}, "lockbox_id"),
    ):
        request = pb.PutKeyRequest(**{**good, **spoiled})
        details = refused(stub.PutKey, invalid, "MALFORMED_MESSAGE", request=request)
        expect(bad_fields(details) == {field}, f"{field} is named for {spoiled}")
    unknown = pb.PutKeyRequest(**{**good, "channel_id": 4711})
    refused(stub.PutKey, precondition, "CHANNEL_UNKNOWN", request=unknown)
    negative = pb.PutKeyRequest(**good, ttl=duration_pb2.Duration(seconds=-1))
    refused(stub.PutKey, invalid, "INVALID_TTL", request=negative)
    expect(keys.misses("refused"), "nothing of them was kept")
    stub.PutKey(pb.PutKeyRequest(**good))
    details = refused(stub.PutKey, invalid, "MALFORMED_MESSAGE", request=pb.PutKeyRequest(**good))
    expect(bad_fields(details) == {"sealed_key"}, "a counter counts once")
    expect(stub.ForgetKey(pb.ForgetKeyRequest(lockbox_id="refused")).forgotten == 1, "the good one was kept")


def owned(stub, keys, session_id, handle):
    """A key of a session is given to its handle alone, so often."""
    key = os.urandom(32)
    expires = timestamp_pb2.Timestamp(seconds=int(time.time()) + ONE_HOUR)
    owner = pb.Owner(session_id=session_id, expire_time=expires, max_uses=2)
    keys.put("granted", key, owner=owner)
    expect(keys.misses("granted"), "without a handle there is none")
    entry = listed(stub)["granted"]
    expect(entry.owner.session_id == session_id and entry.owner.max_uses == 2, f"owner of {entry}")

    bearer = (("authorization", f"Bearer {handle}"),)
    mine = Keys(stub, bearer)
    expect(mine.misses("kept"), "a handle sees no other keys")
    agreement = Agreement()
    request = pb.GetKeyRequest(lockbox_id="granted", client_public_key=agreement.public)
    answer = stub.GetKey(request, metadata=bearer)
    expect(agreement.channel(answer).open("granted", answer) == key, "taken in one call")
    expect(mine.get("granted") == key, "taken on a channel")
    expect(mine.misses("granted"), "its uses are over")

    denied, unauthenticated = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
    refused(stub.ListKeys, denied, "OPERATOR_ONLY", request=pb.ListKeysRequest(), metadata=bearer)
    stranger = (("authorization", "Bearer H-0b6c54f0-6b0f-4c3e-9a53-0a6f4de2f0c1"),)
    refused(stub.GetKey, unauthenticated, "HANDLE_NOT_ACCEPTED", request=request, metadata=stranger)


def main():
    [agent] = sys.argv[1:]
    given = json.load(sys.stdin)
    there, kept = bytes.fromhex(given["there"]), bytes.fromhex(given["kept"])
    stub = keycache_pb2_grpc.KeyCacheServiceStub(grpc.insecure_channel(f"unix:{agent}"))
    keys = Keys(stub)
    expect(keys.get("there") == there, "what another client put is got")
    keys.put("kept", kept)
    put_and_get(keys)
    get_in_one_call(stub, keys)
    list_and_forget(stub, keys)
    refusals(stub, keys)
    owned(stub, keys, given["session_id"], given["handle"])
    print("ok")


main()
