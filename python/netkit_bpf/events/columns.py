# SPDX-License-Identifier: MIT
"""What tables have in common: they are arrays and data frames without a loop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    import pandas


class ArrowTable:
    """A table of the core as Arrow sees it. Immutable; any thread may use it."""

    __slots__ = ()
    _rows: Any

    def __len__(self) -> int:
        return len(self._rows)

    def __arrow_c_schema__(self) -> object:
        """Return the table's schema as a capsule, for libraries that speak Arrow."""
        return self._rows.arrow_schema()

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """Return the table's schema and its data as capsules. A requested schema is ignored."""
        return self._rows.arrow_schema(), self._rows.arrow_array()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the table as a capsule, a stream of one piece. A requested schema is ignored."""
        return self._rows.arrow_stream()

    def to_pandas(self) -> pandas.DataFrame:
        """Return a data frame with the columns of the Arrow table; integers are pandas' nullable types.

        Raises:
            ImportError: pandas or pyarrow is not installed.
        """
        try:
            import pandas
            import pyarrow
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas and pyarrow: pip install 'netkit-bpf[pandas]'") from error
        nullable = {
            pyarrow.uint8(): pandas.UInt8Dtype(),
            pyarrow.uint16(): pandas.UInt16Dtype(),
            pyarrow.uint32(): pandas.UInt32Dtype(),
            pyarrow.uint64(): pandas.UInt64Dtype(),
            pyarrow.bool_(): pandas.BooleanDtype(),
        }
        frame: pandas.DataFrame = pyarrow.record_batch(self).to_pandas(types_mapper=nullable.get)
        return frame


class Columns(ArrowTable):
    """A table of the core as numpy and Arrow see it. Immutable; any thread may use it."""

    __slots__ = ()

    @staticmethod
    @abstractmethod
    def _layout() -> dict[str, Any]:
        """What numpy.dtype() takes: names, formats and offsets."""

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._layout()["names"])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray[Any, Any]:
        import numpy

        array = numpy.ndarray(len(self), _dtype(self._layout), memoryview(self._rows))
        if dtype is not None and dtype != array.dtype:
            if copy is False:
                raise ValueError(f"this {type(self).__name__} cannot be an array of {dtype} without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def _column(self, name: str) -> numpy.ndarray[Any, Any]:
        array = self.__array__()
        if name not in (array.dtype.names or ()):
            raise KeyError(f"no column {name!r}: there are {', '.join(array.dtype.names or ())}")
        column: numpy.ndarray[Any, Any] = array[name]
        return column


@cache
def _dtype(layout: Callable[[], dict[str, Any]]) -> numpy.dtype[Any]:
    import numpy

    dtype: numpy.dtype[Any] = numpy.dtype(layout())  # type: ignore[call-overload]
    return dtype
