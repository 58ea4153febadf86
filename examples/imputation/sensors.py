"""Networks of sensors: readings over time at fixed places, as one graph per day."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

READINGS = ("values", "readings", "daily_temperature_midrange_c")
OBSERVED = ("observed", "observation_mask")
ELEVATION = ("elevation", "elevation_m")
NEIGHBOURS = 6  # of each station, where a file has no edges
MAX_STATIONS = 4096  # the imputation holds a few matrices of stations x stations
TRAIN, VALIDATION, TEST = 0, 1, 2


def read_sensors(path: str | os.PathLike[str]) -> list[Data]:
    r"""Reads an ``.npz`` file of T times and N stations as T graphs of N nodes.

    ==================================== ==========================================================
    array                                what it holds
    ==================================== ==========================================================
    `values`                             readings [T, N]; NaN where there is none. Also `readings`,
                                         `daily_temperature_midrange_c`
    `observed` (optional)                [T, N], boolean; also `observation_mask`
    `coordinates` (optional)             latitude and longitude in degrees [N, 2]
    `elevation` (optional)               [N]; also `elevation_m`
    `dates` (optional)                   [T], ISO dates (``2025-01-31``)
    `edge_index`, `edge_weight`          edges [2, E] and their weights [E], or a compressed
    (optional)                           sparse-row matrix as `adjacency_data`,
                                         `adjacency_indices`, `adjacency_indptr`
    ==================================== ==========================================================

    A file needs edges or coordinates; without edges the nearest stations are joined. Every graph
    has `x` [N, 1] (0 where there is no reading), `observed` [N], `edge_index`, `edge_weight`,
    `pos` [N, 3] (a place on the unit sphere) and `elevation` [N, 1] where the file has them,
    `day`, `part` (0 train, 1 validation, 2 test) and `block`, its month, see :func:`split_days`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or an array is missing or does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{path}'")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:  # numpy lets the errors of zipfile and its parsers through
        raise ValueError(f"cannot read '{path}' as an .npz file: {error}") from error
    return sensor_graphs(arrays, str(path))


def sensor_graphs(arrays: Mapping[str, np.ndarray], name: str) -> list[Data]:
    """The graphs of :func:`read_sensors` from arrays that are in memory; `name` is for errors."""
    values = _pick(arrays, READINGS)
    if values is None:
        raise ValueError(f"'{name}' must hold readings, one of {', '.join(READINGS)}")
    if not np.issubdtype(values.dtype, np.number):
        raise ValueError(f"the readings of '{name}' must be numbers (got {values.dtype})")
    if values.ndim != 2:
        raise ValueError(f"the readings of '{name}' must have shape [T, N] (got {values.shape})")
    times, stations = values.shape
    if times < 10 or not 3 <= stations <= MAX_STATIONS:
        raise ValueError(
            f"'{name}' must hold at least 10 times and 3 to {MAX_STATIONS} stations "
            f"(got {times} and {stations})"
        )
    seen = np.isfinite(values)
    mask = _pick(arrays, OBSERVED)
    if mask is not None:
        _check_shape(mask, (times, stations), "observed", name)
        seen = seen & mask.astype(bool)
    x = torch.from_numpy(np.where(seen, values, 0.0).astype(np.float32))
    observed = torch.from_numpy(seen)
    if int(observed.sum(0).min()) == 0:
        worst = int(observed.sum(0).argmin())
        raise ValueError(f"'{name}' must hold a reading of every station (none of {worst})")

    shared: dict[str, Tensor] = {}
    coordinates = arrays.get("coordinates")
    if coordinates is not None:
        _check_shape(coordinates, (stations, 2), "coordinates", name)
        shared["pos"] = _on_sphere(coordinates, name)
    elevation = _pick(arrays, ELEVATION)
    if elevation is not None:
        _check_shape(elevation, (stations,), "elevation", name)
        height = np.asarray(elevation, dtype=np.float32)
        # A height that is not known is that of the middle station: no information.
        filled = np.where(np.isfinite(height), height, np.nanmedian(height))
        shared["elevation"] = torch.from_numpy(filled).view(-1, 1)
    edge_index, edge_weight = _edges(arrays, shared.get("pos"), stations, name)
    part, block = split_days(arrays.get("dates"), times)
    return [
        Data(
            x=x[t].view(-1, 1),
            observed=observed[t],
            edge_index=edge_index,
            edge_weight=edge_weight,
            day=t,
            part=int(part[t]),
            block=int(block[t]),
            **shared,
        )
        for t in range(times)
    ]


def split_days(dates: np.ndarray | None, times: int) -> tuple[Tensor, Tensor]:
    """``(part, block)`` of every time, [T] each: the first nine months are for training (blocks 0
    to 8), the tenth for validation, later ones for testing. Without dates, or where these leave a
    part empty, the times are cut into twelve equal months."""
    month = None
    if dates is not None and len(dates) == times:
        try:
            days = np.asarray(dates).astype("datetime64[M]").astype(int)
            month = days - days.min()
        except ValueError:
            month = None
    if month is None or {0, 9} - set(month.tolist()) or month.max() < 10:
        month = np.arange(times) * 12 // times
    block = torch.from_numpy(np.asarray(month)).long()
    part = torch.where(block < 9, TRAIN, torch.where(block == 9, VALIDATION, TEST))
    return part, block


def _pick(arrays: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _check_shape(array: np.ndarray, shape: tuple[int, ...], what: str, name: str) -> None:
    if array.shape != shape:
        raise ValueError(f"'{what}' of '{name}' must have shape {shape} (got {array.shape})")


def _on_sphere(coordinates: np.ndarray, name: str) -> Tensor:
    """Places [N, 3] on the unit sphere, whose distances know of no date line and no pole."""
    place = torch.from_numpy(np.asarray(coordinates, dtype=np.float64))
    if not bool(place.isfinite().all()) or float(place[:, 0].abs().max()) > 90:
        raise ValueError(f"'coordinates' of '{name}' must be latitude and longitude in degrees")
    lat, lon = place.deg2rad().unbind(1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], 1).float()


def _edges(
    arrays: Mapping[str, np.ndarray], pos: Tensor | None, stations: int, name: str
) -> tuple[Tensor, Tensor]:
    if "edge_index" in arrays:
        edge_index = torch.from_numpy(np.asarray(arrays["edge_index"])).long()
        weight: Any = arrays.get("edge_weight", np.ones(edge_index.shape[-1]))
    elif "adjacency_indptr" in arrays:
        indptr = np.asarray(arrays["adjacency_indptr"])
        columns = np.asarray(arrays["adjacency_indices"])
        _check_shape(indptr, (stations + 1,), "adjacency_indptr", name)
        rows = np.repeat(np.arange(stations), np.diff(indptr))
        edge_index = torch.from_numpy(np.stack([rows, columns])).long()
        weight = arrays["adjacency_data"]
    elif pos is not None:
        near = torch.cdist(pos, pos).argsort(dim=1)[:, 1 : NEIGHBOURS + 1]
        centre = torch.arange(stations).repeat_interleave(near.size(1))
        pairs = torch.stack([centre, near.reshape(-1)])
        edge_index = torch.cat([pairs, pairs.flip(0)], dim=1).unique(dim=1)
        weight = np.ones(edge_index.size(1))
    else:
        raise ValueError(f"'{name}' must hold 'edge_index' or 'coordinates' (got neither)")
    edge_weight = torch.from_numpy(np.asarray(weight, dtype=np.float32)).view(-1)
    if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.size(1) != len(edge_weight):
        raise ValueError(
            f"'edge_index' of '{name}' must have shape [2, E] and 'edge_weight' [E] "
            f"(got {list(edge_index.shape)} and {list(edge_weight.shape)})"
        )
    if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < stations:
        raise ValueError(f"'edge_index' of '{name}' must lie in [0, {stations})")
    if not bool((edge_weight.isfinite() & (edge_weight >= 0)).all()):
        raise ValueError(f"'edge_weight' of '{name}' must be finite and at least 0")
    return edge_index, edge_weight
