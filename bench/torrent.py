#!/usr/bin/env python3
"""One node of a torrent swarm over libtorrent: TCP alone, no discovery but the peers that it is told.

usage: torrent.py make FILE TORRENT
       torrent.py node TORRENT FOLDER ADDRESS plain|super PEER..
A node says `ready` when it has looked at its folder, begins at a line of standard input, says `done SECONDS` when it
has everything, and goes on seeding until it is ended.
"""
import sys
import time
import warnings

import libtorrent

# What replaces the deprecated calls is not in the 2.0 that distributions have.
warnings.simplefilter("ignore")

PORT = 6881


def make(file, torrent):
    files = libtorrent.file_storage()
    libtorrent.add_files(files, file)
    made = libtorrent.create_torrent(files)
    libtorrent.set_piece_hashes(made, file.rsplit("/", 1)[0])
    with open(torrent, "wb") as out:
        out.write(libtorrent.bencode(made.generate()))


def node(torrent, folder, address, kind, *peers):
    session = libtorrent.session({
        "listen_interfaces": f"{address}:{PORT}",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_outgoing_utp": False,
        "enable_incoming_utp": False,
        "out_enc_policy": int(libtorrent.enc_policy.disabled),
        "in_enc_policy": int(libtorrent.enc_policy.disabled),
    })
    parameters = libtorrent.add_torrent_params()
    parameters.ti, parameters.save_path = libtorrent.torrent_info(torrent), folder
    if kind == "super":
        parameters.flags |= libtorrent.torrent_flags.super_seeding
    handle = session.add_torrent(parameters)
    checking = libtorrent.torrent_status.states.checking_files, libtorrent.torrent_status.states.checking_resume_data
    while handle.status().state in checking:
        time.sleep(0.05)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.monotonic()
    for peer in peers:
        handle.connect_peer((peer, PORT))
    while not handle.status().is_seeding:
        time.sleep(0.05)
    print("done", time.monotonic() - start, flush=True)
    while True:
        time.sleep(60)


{"make": make, "node": node}[sys.argv[1]](*sys.argv[2:])
