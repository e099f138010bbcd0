# SPDX-License-Identifier: MIT
"""Many values of a C type as a numpy array, and back. numpy is imported when it is first needed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from netkit_bpf.btf.addresses import IPV4_BYTES, Address
from netkit_bpf.btf.codec import LARGEST_NUMBER, Array, Bool, ByteArray, Char, CharArray, Codec, Float, Integer
from netkit_bpf.btf.structure import Member, Structure, getter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def dtype_of(codec: Codec) -> np.dtype[Any]:
    """The dtype of the type: fields have their names in C. Bit fields become separate integers.

    An IPv4 address is its number, an IPv6 address its bytes, and so is a number of more than 64 bits.
    """
    import numpy as np

    found: np.dtype[Any] = np.dtype(_spec(codec, has_bits(codec)))
    return found


def to_array(codec: Codec, data: bytes) -> NDArray[Any]:
    """An array of all values in the bytes: a view of them, unless there are bit fields in the type."""
    import numpy as np

    if not codec.size:
        return np.zeros(0, dtype_of(codec))
    if not has_bits(codec):
        return np.frombuffer(data, dtype_of(codec))
    raw = np.frombuffer(data, np.uint8).reshape(-1, codec.size)
    array = np.zeros(len(raw), dtype_of(codec))
    assert isinstance(codec, (Structure, Array))
    _fill(array, raw, codec)
    return array


def from_array(codec: Codec, values: Any, path: str) -> bytes:
    """The bytes of values that are an array or a sequence; errors name the element.

    Padding is zero, except in what `to_array` returned: there it is what was read.
    """
    refuse_masked(values, path)
    if "numpy" in sys.modules:  # otherwise nothing is an array
        import numpy as np

        if isinstance(values, np.ndarray):
            if not has_bits(codec) and values.dtype == dtype_of(codec):
                return values.tobytes() if codec.is_exact or _shows_bytes(values) else _filled(values).tobytes()
            if values.dtype.names is None:
                values = values.tolist()
    return b"".join(codec.encode(value, f"{path}[{index}]") for index, value in enumerate(values))


def refuse_masked(values: Any, path: str) -> None:
    """ValueError if something is masked in an array: it has no value."""
    if "numpy" in sys.modules:  # otherwise nothing is an array
        import numpy as np

        if isinstance(values, np.ma.MaskedArray) and b"\1" in np.ma.getmask(values).tobytes():
            raise ValueError(f"{path} is masked in places: fill these, as filled() does")


def _shows_bytes(values: NDArray[Any]) -> bool:
    """Whether it is what `to_array` returned, or a view of that: what lies between its fields was read, too."""
    import numpy as np

    base: Any = values
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, bytes)


def _filled(values: NDArray[Any]) -> NDArray[Any]:
    """A copy with zeros between the fields, where numpy leaves what was in memory."""
    import numpy as np

    copied = np.zeros(values.shape, values.dtype)
    copied[...] = values  # field by field
    return copied


def has_bits(codec: Codec) -> bool:
    """Whether there is a bit field in the type."""
    if isinstance(codec, Array):
        return has_bits(codec.element)
    return isinstance(codec, Structure) and any(member.bits or has_bits(member.codec) for member in codec.members)


def _spec(codec: Codec, packed: bool) -> Any:
    """What numpy.dtype() takes. Packed, fields follow one another; else they lie where C has them."""
    if isinstance(codec, Bool):
        return "?"
    if isinstance(codec, Integer) and codec.size <= LARGEST_NUMBER:
        return f"{'>' if codec.order == 'big' else '<'}{'i' if codec.signed else 'u'}{codec.size}"
    if isinstance(codec, Address):
        return ">u4" if codec.size == IPV4_BYTES else ("u1", (codec.size,))
    if isinstance(codec, Float):
        return f"f{codec.size}"
    if isinstance(codec, (Char, CharArray)) and codec.size:
        return f"S{codec.size}"
    if isinstance(codec, ByteArray):
        return ("u1", (codec.size,))
    if isinstance(codec, Array):
        return (_spec(codec.element, packed), (codec.count,))
    if isinstance(codec, Structure):
        names = [member.name for member in codec.members]
        formats = [_spec(_number_of(member), packed) for member in codec.members]
        if packed:
            return {"names": names, "formats": formats}
        offsets = [member.span.start for member in codec.members]
        return {"names": names, "formats": formats, "offsets": offsets, "itemsize": codec.size}
    return f"V{codec.size}"


def _number_of(member: Member) -> Codec:
    """The type of the member; of a small bit field, one of a size that numpy knows."""
    codec = member.codec
    if not 0 < member.bits <= LARGEST_NUMBER * 8 or codec.size <= LARGEST_NUMBER:
        return codec
    assert isinstance(codec, Integer)
    return Integer(codec.name, LARGEST_NUMBER, signed=codec.signed)


def _fill(array: NDArray[Any], raw: NDArray[Any], codec: Structure | Array) -> None:
    """Fill an array of packed records from the bytes; the last axis of `raw` is the bytes of one record."""
    if isinstance(codec, Array):
        raw = raw.reshape(*raw.shape[:-1], codec.count, codec.element.size)
        assert isinstance(codec.element, (Structure, Array))
        _fill(array, raw, codec.element)
        return
    for member in codec.members:
        part = raw[..., member.span.start : member.span.stop]
        if not member.codec.size:
            continue
        if member.bits > LARGEST_NUMBER * 8:
            get, rows = getter(member), raw.reshape(-1, codec.size)
            numbers = b"".join(member.codec.encode(get(row.tobytes()), member.name) for row in rows)
            array[member.name] = to_array(member.codec, numbers).reshape(array[member.name].shape)
        elif member.bits:
            array[member.name] = _bits(part, member)
        elif isinstance(member.codec, (Structure, Array)) and has_bits(member.codec):
            _fill(array[member.name], part, member.codec)
        else:
            plain = to_array(member.codec, part.tobytes())
            array[member.name] = plain.reshape(array[member.name].shape)


def _bits(part: NDArray[Any], member: Member) -> NDArray[Any]:
    import numpy as np

    ordered = part if sys.byteorder == "little" else part[..., ::-1]
    behind = member.offset - member.span.start * 8
    if sys.byteorder == "big":
        behind = len(member.span) * 8 - behind - member.bits
    number: NDArray[Any] = np.zeros(part.shape[:-1], np.uint64)
    for index in range(ordered.shape[-1]):  # bits beyond 64 are shifted out
        shift = 8 * index - behind
        byte = ordered[..., index].astype(np.uint64)
        number |= byte << np.uint64(shift) if shift >= 0 else byte >> np.uint64(-shift)
    number &= np.uint64((1 << member.bits) - 1)
    if isinstance(member.codec, Integer) and member.codec.signed:
        sign = np.uint64(1 << member.bits - 1)
        return ((number ^ sign) - sign).view(np.int64)
    return number
