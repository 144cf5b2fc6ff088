"""``molre-edge sign``: a release's maker signs it, or makes the keys for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import molre_edge
from molre_edge.cli.shell import JsonOption, QuietOption, Speaker, UsageError, command, key_password

__all__ = ["sign"]


@command
def sign(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="[PATH]", exists=True, help="The bundle, or a file such as an adapter."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="NAME.key",
            exists=True,
            dir_okay=False,
            help="The secret key, of --new-key or of 'minisign -G'. Its password is asked for, or taken from "
            "MOLRE_EDGE_KEY_PASSWORD.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Name of the release; machines refuse an older version of it. Default: that of the folder.",
        ),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(
            "--release-version",
            min=0,
            metavar="N",
            help="A whole number that grows with each release. Default: the time, in seconds since 1970.",
        ),
    ] = None,
    new_key: Annotated[
        Path | None,
        typer.Option("--new-key", metavar="NAME.key", help="Make a pair of keys, NAME.key and NAME.pub, instead."),
    ] = None,
    no_password: Annotated[
        bool,
        typer.Option("--no-password", help="With --new-key: protect the key by its file's permissions alone."),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Sign a bundle's release or a file in minisign's format, so that machines which trust the key can tell it.

    Of a bundle, everything that its manifest covers is signed. 'minisign -V' accepts the signature.
    """
    speaker = Speaker(as_json, quiet)
    if new_key is not None:
        if path is not None or key is not None or name is not None or version is not None:
            raise UsageError("--new-key makes a pair of keys and nothing else; sign with it afterwards")
        made = molre_edge.make_signing_key(new_key, password=None if no_password else key_password(new_key, new=True))
        speaker.say(f"Secret key: {made.secret} (keep it; whoever has it can sign)")
        speaker.say(f"Public key: {made.public} (id {made.id}): machines that trust it get --trust {made.public.name}")
        speaker.result(made.to_dict())
        return
    if path is None or key is None:
        raise UsageError("name what to sign and the secret key: molre-edge sign edge-bundle --key NAME.key")
    signed = molre_edge.sign_release(path, key, password=key_password(key), name=name, version=version)
    speaker.say(f"Signed: {signed.path} as {signed.name}, version {signed.version}, by key {signed.key_id}")
    speaker.say(f"Signature: {signed.signature}")
    speaker.result(signed.to_dict())
