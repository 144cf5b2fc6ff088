"""The best assignment of rows to columns: which finding of one model is which of another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["best_assignment"]


def best_assignment(costs: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """The column of each row that makes the sum of costs smallest; each column is used once.

    The Hungarian method with potentials (Kuhn 1955, Munkres 1957), cubic in n.

    Args:
        costs: float [n, n], finite.

    Returns:
        int [n].
    """
    table = np.asarray(costs, dtype=np.float64)
    n = len(table)
    # rows and columns count from 1; column 0 stands for the row that is being placed
    row_price, column_price = np.zeros(n + 1), np.zeros(n + 1)
    row_of, way = np.zeros(n + 1, dtype=np.intp), np.zeros(n + 1, dtype=np.intp)
    for row in range(1, n + 1):
        row_of[0], column = row, 0
        distance, used = np.full(n + 1, np.inf), np.zeros(n + 1, dtype=bool)
        while row_of[column] or not used[0]:
            used[column] = True
            through = row_of[column]
            reduced = table[through - 1] - row_price[through] - column_price[1:]
            shorter = np.concatenate([[False], ~used[1:] & (reduced < distance[1:])])
            distance[shorter], way[shorter] = reduced[shorter[1:]], column
            nearest = int(np.where(used, np.inf, distance).argmin())
            step = distance[nearest]
            row_price[row_of[used]] += step
            column_price[used] -= step
            distance[~used] -= step
            column = nearest
        while column:  # move every row on the path to its new column
            row_of[column] = row_of[way[column]]
            column = int(way[column])
    result = np.empty(n, dtype=np.intp)
    result[row_of[1:] - 1] = np.arange(n)
    return result
