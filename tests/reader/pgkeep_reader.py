#!/usr/bin/env python3
"""Reads a pgkeep repository without pgkeep: written from docs/format.md alone.

    pgkeep_reader.py [KEYS] list REPO                  names and sizes of all objects
    pgkeep_reader.py [KEYS] check REPO [NAME]          opens and checks every object, or one; without a name
                                                       also the chains of the inventory
    pgkeep_reader.py [KEYS] cat REPO NAME              content of an object, to standard output
    pgkeep_reader.py [KEYS] segment REPO SEGMENT OUT   a WAL segment, whole or from its pieces
    pgkeep_reader.py [KEYS] backup REPO ID DIR         the files of a base backup

REPO is a directory. Of an encrypted repository, KEYS is --secret-file FILE (a key file or a
passphrase that fits a key slot) or --raw-key-file FILE (the repository key of epoch 1 itself, 32
bytes or 64 hexadecimal digits). --cluster and --incarnation choose, if there are several.

Needs Python 3.9, `cryptography` and `lz4`; `zstandard` for objects that are compressed by it;
`blake3` makes large objects fast. Exit codes: 0 all is well, 1 something is not.
"""
import argparse
import base64
import hmac
import json
import os
import struct
import sys
import uuid
import zlib

FRAME = 262144
BLOCK = 8192
KINDS = ["cluster", "epoch", "heartbeat", "gap", "history", "piece", "segment", "started", "failed",
         "manifest", "pack", "backup_manifest", "inventory"]


class Damaged(Exception):
    """What contradicts what."""


def must(condition, what):
    if not condition:
        raise Damaged(what)


# ---- CBOR, in its one deterministic form ---------------------------------------------------------

def cbor(data, at=0):
    """The value at `at`, and where it ends."""
    must(at < len(data), "CBOR is cut short")
    major, low = data[at] >> 5, data[at] & 31
    at += 1
    if major == 7:
        must(low in (20, 21, 22), "CBOR has a value that does not occur")
        return {20: False, 21: True, 22: None}[low], at
    number = low
    if low >= 24:
        must(low <= 27, "CBOR has no definite length")
        size = 1 << (low - 24)
        must(at + size <= len(data), "CBOR is cut short")
        number = int.from_bytes(data[at:at + size], "big")
        least = 24 if size == 1 else 1 << (4 * size)
        must(number >= least, "CBOR is not in its shortest form")
        at += size
    if major == 0:
        return number, at
    if major == 1:
        return -1 - number, at
    must(number <= len(data) - at, "CBOR is cut short")
    if major in (2, 3):
        raw = bytes(data[at:at + number])
        return (raw if major == 2 else raw.decode("utf-8")), at + number
    must(major in (4, 5), "CBOR has a tag")
    items, last = [], None
    for _ in range(number):
        if major == 5:
            begin = at
            key, at = cbor(data, at)
            encoded = data[begin:at]
            must(last is None or last < encoded, "the keys of a CBOR map are not in order")
            last = encoded
            value, at = cbor(data, at)
            items.append((key, value))
        else:
            value, at = cbor(data, at)
            items.append(value)
    return (dict(items) if major == 5 else items), at


def record(data, least, most, what):
    """A record that fills `data`, with what is absent at its end as None."""
    try:
        value, end = cbor(data)
    except (UnicodeDecodeError, RecursionError):
        raise Damaged(f"{what} is not CBOR") from None
    must(end == len(data), f"something follows in {what}")
    must(isinstance(value, list) and least <= len(value) <= most, f"{what} is not a record")
    must(value[-1] is not None, f"{what} ends with an absent field")
    return value + [None] * (most - len(value))


# ---- BLAKE3, for who has no module of it ---------------------------------------------------------

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIX = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
       (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def compress(chain, block, counter, flags):
    words = struct.unpack("<16I", block.ljust(64, b"\0"))
    v = list(chain) + list(IV[:4]) + [counter & 0xFFFFFFFF, counter >> 32, len(block), flags]
    for _ in range(7):
        for place, (a, b, c, d) in enumerate(MIX):
            for word, right, left in ((words[2 * place], 16, 12), (words[2 * place + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & 0xFFFFFFFF
                x = v[d] ^ v[a]
                v[d] = (x >> right | x << (32 - right)) & 0xFFFFFFFF
                v[c] = (v[c] + v[d]) & 0xFFFFFFFF
                x = v[b] ^ v[c]
                v[b] = (x >> left | x << (32 - left)) & 0xFFFFFFFF
        words = [words[place] for place in ORDER]
    return [v[i] ^ v[i + 8] for i in range(8)]


def blake3_chain(data, first, root):
    if len(data) <= 1024:
        chain, blocks = IV, [data[i:i + 64] for i in range(0, len(data), 64)] or [b""]
        for n, block in enumerate(blocks):
            is_last = n == len(blocks) - 1
            flags = (n == 0) | is_last << 1 | (is_last and root) << 3
            chain = compress(chain, block, first, flags)
        return chain
    chunks = (len(data) + 1023) // 1024
    left = 1 << ((chunks - 1).bit_length() - 1)
    pair = (blake3_chain(data[:left * 1024], first, False)
            + blake3_chain(data[left * 1024:], first + left, False))
    return compress(IV, struct.pack("<16I", *pair), 0, 4 | root << 3)


def blake3(data):
    try:
        from blake3 import blake3 as fast
        return fast(data).digest()
    except ImportError:
        return struct.pack("<8I", *blake3_chain(bytes(data), 0, True))


# ---- keys ----------------------------------------------------------------------------------------

def hkdf(secret, salt, info, length):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


def sha256(data):
    from hashlib import sha256 as digest
    return digest(data).digest()


def decrypt(key, nonce, aad, sealed, what):
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    try:
        return AESGCM(key).decrypt(nonce, bytes(sealed), aad)
    except InvalidTag:
        raise Damaged(f"{what} is not authentic") from None


def secret_of(text):
    """A secret as (kind, bytes)."""
    text = text[:-1] if text.endswith(b"\n") else text
    text = text[:-1] if text.endswith(b"\r") else text
    mark = b"PGKEEP-KEY-1:"
    if text.startswith(mark):
        return "key", base64.b64decode(text[len(mark):].strip(), validate=True)
    return "passphrase", text


def argon2id(passphrase, salt, memory_kib, passes, lanes):
    try:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id  # from 44.0 on
        return Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes,
                        memory_cost=memory_kib).derive(passphrase)
    except ImportError:
        from argon2.low_level import Type, hash_secret_raw  # of argon2-cffi
        return hash_secret_raw(passphrase, salt, passes, memory_kib, lanes, 32, Type.ID)


def open_slot(slot, place, owner, secret):
    """The repository key in a slot; None if the secret is not the one of this slot."""
    epoch, name = place
    must(slot["format"] == 1, f"it has format {slot['format']}")
    must((slot["epoch"], slot["slot"], slot["repository"]) == (epoch, name, str(owner)),
         "it was made for another place")
    kind, stretched = secret
    if slot["kind"] != kind:
        return None
    salt, commitment, check, wrapped = (
        base64.b64decode(slot[field], validate=True) for field in ("salt", "commitment", "check", "wrapped"))
    numbers = [0, 0, 0]
    if kind == "passphrase":
        numbers = [slot["argon2"][field] for field in ("memory_kib", "passes", "lanes")]
        must(65536 <= numbers[0] <= 1048576 and numbers[1] <= 16, "it asks for too much or too little")
        stretched = argon2id(stretched, salt, *numbers)
    label = b"pgkeep/1 key slot"
    info = label + owner.bytes + struct.pack("<I", epoch) + name.encode()
    keys = hkdf(stretched, salt, info, 64)
    if keys[32:] != commitment:
        return None
    texts = [struct.pack("<I", len(x)) + x for x in (name.encode(), slot["created_at"].encode(), b"", b"")]
    aad = sha256(label + struct.pack("<I", 1) + owner.bytes + struct.pack("<I", epoch) + texts[0] + texts[1]
                 + bytes([1 if kind == "key" else 2]) + struct.pack("<3I", *numbers) + texts[2] + texts[3]
                 + salt + commitment + check)
    key = decrypt(keys[:32], bytes(12), aad, wrapped, "the wrapped key")
    must(hkdf(key, None, b"pgkeep/1 key check", 16) == check, "its check differs")
    return key


def open_link(link, newer, epoch, owner):
    """The repository key of the epoch before."""
    must((link["format"], link["repository"], link["epoch"], link["previous"])
         == (1, str(owner), epoch, epoch - 1), "the link was made for another place")
    salt, check, wrapped = (
        base64.b64decode(link[field], validate=True) for field in ("salt", "check", "wrapped"))
    label, created = b"pgkeep/1 previous key", link["created_at"].encode()
    wrapping = hkdf(newer, salt, label + owner.bytes + struct.pack("<I", epoch), 32)
    aad = sha256(label + struct.pack("<I", 1) + owner.bytes + struct.pack("<II", epoch, epoch - 1)
                 + struct.pack("<I", len(created)) + created + salt + check)
    key = decrypt(wrapping, bytes(12), aad, wrapped, "the older key")
    must(hkdf(key, None, b"pgkeep/1 key check", 16) == check, "the check of the older key differs")
    return key


# ---- sealed objects ------------------------------------------------------------------------------

class SealedObject:
    """An object whose bytes are all here. Steps 1 to 7 of docs/format.md; `content` does the rest."""

    def __init__(self, repository, name, data):
        self.data = data
        must(len(data) >= 36 and data[-4:] == b"KEPT", "it does not end as a sealed object")
        offset, length, tail_crc, object_crc = struct.unpack("<QIII", data[-24:-4])
        must(offset + length + 24 == len(data), "its footer contradicts its size")
        tail = data[offset:offset + length]
        must(zlib.crc32(tail) == tail_crc, "crc32 of its tail differs")
        must(zlib.crc32(data[:-8]) == object_crc, "crc32 of the whole differs")
        magic, version, length = struct.unpack("<6sHI", data[:12])
        must(magic == b"PGKEEP", "it does not begin as a sealed object")
        must(version == 1, f"it has version {version}")
        must(12 + length <= min(4096, offset), "its header is too long")
        self.head = data[:12 + length]
        (self.kind, self.name, owner, cluster, incarnation, self.epoch, protection, self.span) = record(
            self.head[12:], 6, 8, "its header")
        must(isinstance(self.kind, int) and self.kind < len(KINDS), "its kind is unknown")
        must(self.name == name, f"it was made for the name {self.name}")
        must(owner == repository.uuid.bytes, "it was made for another repository")
        must((protection is not None) == repository.is_encrypted,
             "it is encrypted" if protection else "it is not encrypted")
        self.frame_key = self.digest = None
        if protection:
            self.digest = sha256(self.head)
            tail = self.open_tail(repository, protection, tail)
        head_crc, self.index, trailer = record(tail, 3, 3, "its tail")
        must(head_crc == zlib.crc32(self.head), "crc32 of its header differs")
        self.raw_length, self.raw_digest, self.extra = trailer
        must(name.startswith(f"{cluster}/{incarnation:04d}/"), "it was made for another cluster")
        must(kind_of(name) == self.kind, f"it is a {KINDS[self.kind]}")
        last, stored_sum, raw_sum = len(self.index) - 1, len(self.head), 0
        for n, (stored, raw, codec, _) in enumerate(self.index):
            body = stored - (16 if protection else 0)
            must(raw == FRAME or n == last and 0 < raw < FRAME, "its index holds an impossible frame")
            must(body == raw if codec == 0 else codec in (1, 2) and 0 < body < raw,
                 "its index holds an impossible frame")
            stored_sum, raw_sum = stored_sum + stored, raw_sum + raw
        must(stored_sum == offset and raw_sum == self.raw_length, "its index contradicts its lengths")

    def open_tail(self, repository, protection, tail):
        suite, epoch, salt, commitment = protection
        must(suite == 1, f"its suite {suite} is unknown")
        key = repository.key(epoch)
        info = (b"pgkeep/1 object" + struct.pack("<H", suite) + repository.uuid.bytes
                + struct.pack("<IB", epoch, self.kind) + self.name.encode())
        keys = hkdf(hkdf(key, None, b"pgkeep/1 content", 32), salt, info, 64)
        must(keys[32:] == commitment, "its key commitment differs")
        self.frame_key = keys[:32]
        tail_key = hkdf(hkdf(key, None, b"pgkeep/1 tail", 32), salt, info, 32)
        return decrypt(tail_key, bytes(11) + b"\2", self.digest, tail, "its tail")

    def content(self):
        """Steps 8 and 9."""
        raw, at = bytearray(), len(self.head)
        for n, (stored, length, codec, crc) in enumerate(self.index):
            frame = self.data[at:at + stored]
            at += stored
            must(zlib.crc32(frame) == crc, f"crc32 of frame {n} differs")
            if self.frame_key:
                nonce = n.to_bytes(11, "big") + bytes([n == len(self.index) - 1])
                aad = self.digest + struct.pack("<IB", length, codec)
                frame = decrypt(self.frame_key, nonce, aad, frame, f"frame {n}")
            raw += decompress(frame, length, codec, n)
        must(blake3(raw) == self.raw_digest, "BLAKE3 digest of its content differs")
        return bytes(raw)


def decompress(frame, length, codec, n):
    try:
        if codec == 1:
            from lz4 import block
            frame = block.decompress(frame, uncompressed_size=length)
        elif codec == 2:
            import zstandard
            frame = zstandard.ZstdDecompressor().decompressobj().decompress(frame)
    except Exception as error:  # each library has its own
        raise Damaged(f"frame {n} does not decompress: {error}") from None
    must(len(frame) == length, f"frame {n} does not have its length")
    return frame


def kind_of(name):
    """The kind that belongs under a name."""
    parts = name.split("/")[2:]
    last = {"started": 7, "failed": 8, "manifest": 9, "backup_manifest": 11}
    if parts[0] == "backups" and len(parts) >= 3:
        return 10 if parts[2] == "packs" else last.get(parts[2])
    first = {"cluster": 0, "epoch": 1, "heartbeat": 2, "gaps": 3, "history": 4, "pieces": 5, "wal": 6,
             "inventory": 12}
    return first.get(parts[0])


# ---- the repository ------------------------------------------------------------------------------

class Repository:
    def __init__(self, root, secret=None, raw_key=None):
        self.root = root
        about = json.loads(self.read("repository"))
        must(about.get("format") == 1, f"the repository has format {about.get('format')}")
        self.uuid = uuid.UUID(about["uuid"])
        self.is_encrypted = bool(secret or raw_key)
        told = {"off": False, "aes-256-gcm": True}[about["encryption"]]
        must(told == self.is_encrypted, f"a key was {'not ' * told}given, and encryption is {about['encryption']}")
        self.keys = {1: raw_key} if raw_key else {}
        if secret:
            self.open_slots(secret)
        if self.is_encrypted:
            label = b"pgkeep/1 repository record"
            message = label + struct.pack("<I", 1) + self.uuid.bytes + about["encryption"].encode()
            mac = hmac.new(hkdf(self.key(1), None, label, 32), message, "sha256").digest()
            must(mac == base64.b64decode(about.get("mac", "")), "the mac of the record differs")

    def open_slots(self, secret):
        secret = secret_of(secret)
        for name in self.names():
            parts = name.split("/")
            if parts[0] == "keys" and parts[2] != "previous":
                key = open_slot(json.loads(self.read(name)), (int(parts[1]), parts[2]), self.uuid, secret)
                if key:
                    self.keys[int(parts[1])] = key
        must(self.keys, "the secret opens no key slot")
        for epoch in range(max(self.keys), 1, -1):
            link = json.loads(self.read(f"keys/{epoch:04d}/previous"))
            self.keys[epoch - 1] = open_link(link, self.keys[epoch], epoch, self.uuid)

    def read(self, name):
        with open(os.path.join(self.root, name), "rb") as file:
            return file.read()

    def names(self):
        found = []
        for directory, below, files in os.walk(self.root):
            below[:] = [d for d in below if not d.startswith(".")]
            found += [os.path.relpath(os.path.join(directory, file), self.root)
                      for file in files if not file.startswith(".")]
        return sorted(found)

    def key(self, epoch):
        must(epoch in self.keys, f"there is no key of epoch {epoch}")
        return self.keys[epoch]

    def open(self, name):
        try:
            return SealedObject(self, name, self.read(name))
        except (TypeError, ValueError) as error:
            raise Damaged(f"a field has another type than it must: {error}") from None

    def pieces(self, cluster, segment):
        """The chain of pieces from the start of a segment."""
        size = cbor(self.open(f"{cluster}/cluster").content())[0][1]
        log, number = int(segment[8:16], 16), int(segment[16:], 16)
        at = (log * (2**32 // size) + number) * size
        end = at + size
        while at < end:
            name = f"{cluster}/pieces/{segment[:8]}/{segment}/0/{at:016X}"
            if not os.path.exists(os.path.join(self.root, name)):
                print(f"{segment} is archived up to {at >> 32:X}/{at & 0xFFFFFFFF:X}", file=sys.stderr)
                return
            piece = self.open(name)
            must(piece.span[0] == int(segment[:8], 16) and piece.span[1] == at < piece.span[2] <= end,
                 "its span is not that of its name")
            yield piece
            at = piece.span[2]

    def chain(self, timeline):
        """Checks the pages of one timeline, whose names begin with `timeline`; gives the last one."""
        cluster = timeline.split("/inventory/")[0]
        size = cbor(self.open(f"{cluster}/cluster").content())[0][1]
        names = [name for name in self.names() if name.startswith(timeline)]
        previous, start, archived = bytes(32), None, 0
        for number, name in enumerate(names, 1):
            must(name == f"{timeline}{number:08d}", f"page {number} of {timeline} is missing")
            opened = self.open(name)
            content = opened.content()
            page = record(content, 10, 10, "a page")
            must(page[0] == int(timeline[-9:-1], 16) and page[1] == number, f"{name} is another page")
            must(page[2] == previous, f"{name} does not follow the page before")
            must(page[3] == opened.epoch, f"{name} names another epoch than its header")
            at = start or 0
            for first, digests in page[5]:
                must(first >= at and first % size == 0 and digests and len(digests) % 32 == 0,
                     f"{name} has an impossible run")
                at = first + len(digests) // 32 * size
            must(page[9] % size == 0 and (page[9] == at if page[5] or start is not None else True),
                 f"{name} does not end where it says")
            must(all(begin < end for begin, end in page[6]), f"{name} has an impossible gap")
            must(page[8] >= archived and (not page[5] or page[8] >= at), f"{name} goes back")
            previous, start, archived = blake3(content), page[9], page[8]
        return [int(timeline[-9:-1], 16), len(names), previous, archived]

    def head(self, name):
        """Checks that the page which a heartbeat knows is there."""
        known = record(self.open(name).content(), 4, 5, "a heartbeat")[4]
        if known:
            page = f"{name[:-len('heartbeat')]}inventory/{known[0]:08X}/{known[1]:08d}"
            must(os.path.exists(os.path.join(self.root, page)), f"it knows {page}, which is missing")
            must(blake3(self.open(page).content()) == known[2], f"it knows another {page}")

    def segment(self, cluster, segment):
        whole = f"{cluster}/wal/{segment[:8]}/{segment}"
        if os.path.exists(os.path.join(self.root, whole)):
            return self.open(whole).content()
        return b"".join(piece.content() for piece in self.pieces(cluster, segment))

    def backup(self, cluster, backup, directory):
        """Lays files down as the manifest says; gives their number."""
        base = f"{cluster}/backups/{backup}"
        content, at, files, packs = self.open(f"{base}/manifest").content(), 0, 0, {}
        os.makedirs(os.path.join(directory, "pg_wal"), exist_ok=True)
        while at < len(content):
            (path, mode, (kind, fields)), at = cbor(content, at)
            must(all(p not in (b"", b".", b"..") for p in path.split(b"/")), "a path leaves the directory")
            place = os.path.join(os.fsencode(directory), path)
            if kind == 0:
                os.makedirs(place, exist_ok=True)
                continue
            size, _, digest, runs = fields
            data = bytearray()
            for first, count, pack, frame, block in runs:
                must(first * BLOCK == len(data), "the runs of a file have a hole")
                if pack not in packs:
                    packs = {pack: self.open(f"{base}/packs/{pack:08d}").content()}
                start = frame * FRAME + block * BLOCK
                data += packs[pack][start:start + count * BLOCK]
            data = data[:size]
            must(len(data) == size and blake3(data) == digest, f"{path!r} is not as its manifest says")
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "wb") as file:
                file.write(data)
            files += 1
        with open(os.path.join(directory, "backup_manifest"), "wb") as file:
            file.write(self.open(f"{base}/backup_manifest").content())
        return files


# ---- the command line ----------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--secret-file")
    parser.add_argument("--raw-key-file")
    parser.add_argument("--cluster", default="main")
    parser.add_argument("--incarnation", default=1, type=int)
    parser.add_argument("verb", choices=["list", "check", "cat", "segment", "backup"])
    parser.add_argument("repository")
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    secret = raw_key = None
    if given.secret_file:
        secret = open(given.secret_file, "rb").read()
    if given.raw_key_file:
        raw_key = open(given.raw_key_file, "rb").read()
        raw_key = raw_key if len(raw_key) == 32 else bytes.fromhex(raw_key.decode())
    repository = Repository(given.repository, secret, raw_key)
    cluster, rest = f"{given.cluster}/{given.incarnation:04d}", given.arguments
    if given.verb == "cat":
        sys.stdout.buffer.write(repository.open(rest[0]).content())
    elif given.verb == "segment":
        with open(rest[1], "wb") as out:
            out.write(repository.segment(cluster, rest[0]))
    elif given.verb == "backup":
        print(f"{repository.backup(cluster, rest[0], rest[1])} files")
    else:
        return walk(repository, given.verb, rest)
    return 0


def walk(repository, verb, names):
    sealed = damaged = 0
    for name in names or repository.names():
        if name == "repository" or name.startswith("keys/"):
            continue
        try:
            if verb == "list":
                print(f"{os.path.getsize(os.path.join(repository.root, name)):>12} {name}")
                continue
            opened = repository.open(name)
            content = opened.content()
            digest = sha256(content).hex()
            print(f"{name} {opened.kind} {len(content)} {digest} {opened.extra.hex() or '-'}")
            sealed += 1
        except (Damaged, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            damaged += 1
    if verb == "check" and not names:
        found = repository.names()
        chains = sorted({name[:-8] for name in found if name.split("/")[2:3] == ["inventory"]})
        heartbeats = [name for name in found if name.split("/")[2:] == ["heartbeat"]]
        for check, name in [(repository.chain, name) for name in chains] + [
                (repository.head, name) for name in heartbeats]:
            try:
                check(name)
            except (Damaged, OSError, TypeError, ValueError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                damaged += 1
    if verb == "check":
        print(f"{sealed} sound, {damaged} not", file=sys.stderr)
    return 1 if damaged or verb == "check" and not sealed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Damaged, OSError) as error:
        sys.exit(f"error: {error}")
