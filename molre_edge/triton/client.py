"""Requests to a Triton server over HTTP: the Open Inference Protocol with Triton's binary tensors.

Standard library and NumPy only, so a box can ask its server without Triton's client and what that needs.
"""

from __future__ import annotations

import http.client
import json
import math
import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from molre_edge.errors import EngineError
from molre_edge.specs import VOLUME
from molre_edge.triton.config import BYTES, DTYPES
from molre_edge.triton.forms import ADAPTER

__all__ = ["TritonClient"]

_DTYPES = {word: dtype for dtype, word in DTYPES.items()}
_HEADER = "Inference-Header-Content-Length"
_MAX_ANSWER_BYTES = 1 << 30


class TritonClient:
    """Asks one model of one server. Each request is a connection of its own, so threads may share a client."""

    def __init__(self, url: str, model: str, *, timeout_s: float = 300.0) -> None:
        """Ask nothing yet.

        Args:
            url: ``HOST:PORT`` of the server's HTTP service.
            model: name of the model.
            timeout_s: for each request.
        """
        self.url, self.model, self._timeout_s = url.removeprefix("http://").rstrip("/"), model, timeout_s

    def config(self) -> dict[str, Any]:
        """The model's configuration, as the server has it.

        Raises:
            EngineError: the server can't be reached, or does not serve the model.
        """
        _, body = self._ask("GET", f"/v2/models/{quote(self.model)}/config")
        config = _json(body, self.url)
        if not isinstance(config, dict):
            raise self._unexpected("its configuration is not a JSON object")
        return config

    def calls(self) -> dict[int, int]:
        """How often the model was called since the server started, by the number of volumes in the call.

        Raises:
            EngineError: as :meth:`config`.
        """
        _, body = self._ask("GET", f"/v2/models/{quote(self.model)}/stats")
        try:
            stats = _json(body, self.url)["model_stats"][0].get("batch_stats", [])
            return {int(each["batch_size"]): int(each["compute_infer"]["count"]) for each in stats}
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise self._unexpected(f"its statistics lack {error}") from error

    def infer(
        self, volume: npt.NDArray[np.floating[Any]], adapter: str | None = None
    ) -> dict[str, npt.NDArray[np.generic]]:
        """The model's outputs for a batch, by name; text as bytes.

        Args:
            volume: [batch, slices, rows, cols] in the dtype of the model's input.
            adapter: named to a model that takes adapters.

        Raises:
            EngineError: the server can't be reached or refuses the request; the message has its words.
        """
        raw = np.ascontiguousarray(volume).tobytes()
        head = {
            "inputs": [
                {
                    "name": VOLUME,
                    "shape": list(volume.shape),
                    "datatype": DTYPES[volume.dtype.name],
                    "parameters": {"binary_data_size": len(raw)},
                }
            ],
            "parameters": {"binary_data_output": True, **({} if adapter is None else {ADAPTER: adapter})},
        }
        text = json.dumps(head).encode()
        headers = {_HEADER: str(len(text)), "Content-Type": "application/octet-stream"}
        length, body = self._ask("POST", f"/v2/models/{quote(self.model)}/infer", text + raw, headers)
        return self._outputs(body if length is None else body[:length], b"" if length is None else body[length:])

    def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int | None, bytes]:
        """The length of the answer's JSON, if tensors follow it, and the answer."""
        try:
            connection = http.client.HTTPConnection(self.url, timeout=self._timeout_s)
        except http.client.InvalidURL as error:
            raise EngineError(f"{self.url}: not HOST:PORT of a Triton server ({error})") from error
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            content = answer.read(_MAX_ANSWER_BYTES)
            length = answer.getheader(_HEADER)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise EngineError(
                f"http://{self.url}: no answer of a Triton server ({reason}). Expected its HTTP service there: start "
                f"it, or name another one with --url"
            ) from error
        finally:
            connection.close()
        if answer.status != 200:
            raise EngineError(f"http://{self.url}: model {self.model}: {_reason(content, answer.status)}")
        return (int(length) if length is not None and length.isdecimal() else None), content

    def _outputs(self, head: bytes, rest: bytes) -> dict[str, npt.NDArray[np.generic]]:
        outputs, begin = dict[str, npt.NDArray[np.generic]](), 0
        try:
            for each in _json(head, self.url)["outputs"]:
                size = int(each["parameters"]["binary_data_size"])
                raw, begin = rest[begin : begin + size], begin + size
                dtype, shape = _DTYPES[each["datatype"]], tuple(map(int, each["shape"]))
                values = _texts(raw) if dtype == BYTES else np.frombuffer(raw, dtype)
                if len(raw) != size or values.size != math.prod(shape):
                    raise ValueError("its tensors are cut off")
                outputs[each["name"]] = values.reshape(shape)
        except (KeyError, TypeError, ValueError, struct.error) as error:
            raise self._unexpected(str(error)) from error
        return outputs

    def _unexpected(self, why: str) -> EngineError:
        return EngineError(f"http://{self.url}: model {self.model}: not an answer of a Triton server ({why[:200]})")


def _json(content: bytes, url: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise EngineError(f"http://{url}: not an answer of a Triton server: expected JSON ({error})") from error


def _reason(content: bytes, status: int) -> str:
    """The server's own words, else the status."""
    try:
        return str(json.loads(content)["error"])[:2000]
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"HTTP status {status}"


def _texts(raw: bytes) -> npt.NDArray[np.generic]:
    """Texts, each after its length in four bytes."""
    found, begin = list[bytes](), 0
    while begin < len(raw):
        (length,) = struct.unpack_from("<I", raw, begin)
        found.append(raw[begin + 4 : begin + 4 + length])
        begin += 4 + length
    if begin != len(raw):
        raise ValueError("its texts are cut off")
    return np.array(found, dtype=object)
