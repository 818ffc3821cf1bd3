"""Small files of exactly the layouts in which public sets are published, for test_sources.py."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class Made:
    """A file, the samples and labels in it in the order of reading; ``data`` is the file to damage."""

    path: Path
    iq: np.ndarray | list
    rate: float
    labels: dict[str, list] = field(default_factory=dict)
    other: Path | None = None

    @property
    def data(self) -> Path:
        return self.other or self.path


def complex_noise(*shape: int) -> np.ndarray:
    """Values that float32 holds exactly."""
    generator = np.random.default_rng(sum(shape))
    return (generator.integers(-4096, 4096, (*shape, 2)) @ [1, 1j] / 4096).astype(np.complex64)


def as_pairs(x: np.ndarray, dtype=np.float32, axis: int = -1) -> np.ndarray:
    return np.stack([x.real, x.imag], axis).astype(dtype)


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 did: both as its one string type."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value) -> None:
        data = value if isinstance(value, bytes) else value.encode("latin1")
        head = pickle.SHORT_BINSTRING + bytes([len(data)]) if len(data) < 256 else \
            pickle.BINSTRING + struct.pack("<i", len(data))
        self.write(head + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def python2_pickle(value) -> bytes:
    out = io.BytesIO()
    Python2Pickler(out, protocol=2).dump(value)
    return out.getvalue()


def rml2016(name: str, file: str, classes: tuple[str, ...], counts: tuple[int, ...]) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        held, iq, modulation, snr = {}, [], [], []
        for which, count in zip(sorted(classes), counts):
            for level in (-20, 18):
                x = complex_noise(count, 128)
                held[which, level] = as_pairs(x, axis=1)
                iq.extend(x)
                modulation += [which] * count
                snr += [float(level)] * count
        path = folder / file
        path.write_bytes(python2_pickle(held))
        return Made(path, iq, 1e6, {"modulation": modulation, "snr": snr})

    return make


def rml2018(folder: Path) -> Made:
    import h5py

    x, path = complex_noise(5, 1024), folder / "GOLD_XYZ_OSC.0001_1024.hdf5"
    with h5py.File(path, "w") as file:
        file["X"] = as_pairs(x)
        file["Y"] = np.eye(24, dtype=np.int64)[[0, 3, 21, 23, 4]]
        file["Z"] = np.array([[-20], [-2], [0], [10], [30]], np.int64)
    return Made(path, x, 1e6, {"modulation": ["OOK", "BPSK", "FM", "OQPSK", "QPSK"],
                               "snr": [-20.0, -2.0, 0.0, 10.0, 30.0]})


def radchar(folder: Path) -> Made:
    import h5py

    dtype = [("index", "<i8"), ("signal_type", "<i8"), ("number_of_pulses", "<i8"), ("pulse_width", "<f8"),
             ("time_delay", "<f8"), ("pulse_repetition_interval", "<f8"), ("signal_to_noise_ratio", "<i8")]
    rows = [(k, k, 2 + k, 1e-5 + k * 1e-6, 1e-6 * (1 + k), 1.7e-5 + k * 1e-6, 10 * k - 20) for k in range(5)]
    x, path = complex_noise(5, 512), folder / "RadChar-Tiny.h5"
    with h5py.File(path, "w") as file:
        file["iq"] = x.astype(np.complex128)
        file["labels"] = np.array(rows, dtype)
    names = ["Coherent Pulse Train", "Barker Code", "Polyphase Barker Code", "Frank Code", "LFM"]
    return Made(path, x, 3.2e6, {
        "radar_waveform": names, "num_pulses": [r[2] for r in rows], "pulse_width": [r[3] for r in rows],
        "pulse_time_delay": [r[4] for r in rows], "pri": [r[5] for r in rows], "snr": [float(r[6]) for r in rows]})


def hisarmod(folder: Path) -> Made:
    x, path = complex_noise(4, 1024), folder / "train_data.csv"
    text = "\n".join(",".join(f"{v.real:.9g}{v.imag:+.9g}i" for v in row) for row in x)
    path.write_text(text + "\n")
    (folder / "train_labels.csv").write_text("0\n61\n12\n54\n")
    (folder / "train_snr.csv").write_text("-20\n0\n2\n18\n")
    return Made(path, x, 1e6, {"modulation": ["BPSK", "256QAM", "4FSK", "PM"], "snr": [-20.0, 0.0, 2.0, 18.0]})


def panoradio(folder: Path) -> Made:
    x, path = complex_noise(3, 2048), folder / "dataset_panoradio_hf.npy"
    np.save(path, x)
    (folder / "dataset_panoradio_hf_tags.csv").write_text("idx, mode, snr\n0, morse, 25\n1, usb, -10\n2, fax, 0\n")
    return Made(path, x, 6e3, {"modulation": ["morse", "usb", "fax"], "snr": [25.0, -10.0, 0.0]})


def wisig(folder: Path) -> Made:
    emitters, receivers, dates = ["14-10", "8-13"], ["1-1"], ["2021_03_01", "2021_03_08"]
    data, iq, device = [], [], []
    for emitter in emitters:
        days = []
        for number, _ in enumerate(dates):
            count = 0 if (emitter, number) == ("8-13", 1) else 2  # some cells of the set are empty
            x = complex_noise(2, count, 256) if count else np.zeros((2, 0, 256), np.complex64)
            days.append([as_pairs(copy, np.float64) for copy in x])
            iq.extend(x.reshape(-1, 256))
            device += [emitter] * 2 * count
        data.append([days])
    held = {"tx_list": emitters, "rx_list": receivers, "capture_date_list": dates, "equalized_list": [0, 1],
            "max_sig": 2, "data": data}
    path = folder / "ManySig.pkl"
    path.write_bytes(pickle.dumps(held, protocol=3))
    return Made(path, iq, 25e6, {"device_id": device})


def powder(folder: Path) -> Made:
    x, path = complex_noise(3 * 512 + 7), folder / "5G_Day_2_honors_s3.bin"
    x.tofile(path)
    (folder / "5G_Day_2_honors_s3.json").write_text(json.dumps({
        "global": {"core:datatype": "cf32", "core:sample_rate": "7690000"},
        "captures": {"core:day": "2", "core:set": "3", "core:center_frequency": "2685000000"},
        "annotations": {"core:sample_count": str(len(x)), "core:protocol": "5G",
                        "transmitter": {"core:location": "honors"}}}))
    return Made(path, x[: 3 * 512].reshape(3, 512), 7.69e6,
                {"device_id": ["honors"] * 3, "infer_class": ["5G NR"] * 3, "modulation": ["OFDM"] * 3})


def northeastern(folder: Path) -> Made:
    x, stem = complex_noise(2 * 288 + 5), "WiFi_air_X310_3123D65_8ft_run2"
    path, data = folder / f"{stem}.sigmf-meta", folder / f"{stem}.sigmf-data"
    x.astype(np.complex128).tofile(data)
    path.write_text(json.dumps({"data_file": f"elsewhere/{stem}.sigmf-data", "_metadata": {
        "global": {"core:datatype": "cf64", "core:sample_rate": 5e6, "core:version": "0.02"},
        "captures": [{"core:sample_start": 0, "frequency": 2450000000}],
        "annotations": [{"core:sample_start": 0, "core:sample_count": len(x)}]}}))
    return Made(path, x[: 2 * 288].reshape(2, 288), 5e6, {"device_id": ["X310-3123D65"] * 2}, data)


def lora(folder: Path) -> Made:
    x, place = complex_noise(2 * 4096 + 1), folder / "Diff_Days_Indoor_Setup" / "Day1" / "Device7"
    place.mkdir(parents=True)
    x.tofile(place / "IQ_1.dat")
    (place / "IQ_1.sigmf-meta").write_text(json.dumps({
        "global": {"core:datatype": "cf32_le", "core:sample_rate": 1e6}, "captures": [{"core:sample_start": 0}],
        "annotations": [{"core:sample_start": 0, "core:sample_count": len(x)}]}))
    return Made(place / "IQ_1.dat", x[: 2 * 4096].reshape(2, 4096), 1e6, {
        "device_id": ["7"] * 2, "modulation": ["LoRa"] * 2,
        "transmission_id": ["Diff_Days_Indoor_Setup/Day1/Device7/IQ_1"] * 2})


def mono_receiver(folder: Path) -> Made:
    from scipy.io import savemat

    x, path = complex_noise(3, 974), folder / "adsb_records_qt.mat"
    icao = np.array([[0xA1B2C3], [0x00ABCD], [0xA1B2C3]], float)
    savemat(path, {"icaoLst": icao, "msgIdLst": np.arange(3.0)[:, None], "snrLst": np.array([[10.5], [3.0], [7.25]]),
                   "rawIMatrix": x.real.reshape(-1, 1).astype(float), "rawQMatrix": x.imag.reshape(-1, 1).astype(float),
                   "payloadMatrix": np.zeros((3 * 112, 1))})
    return Made(path, x, 8e6, {"device_id": ["A1B2C3", "00ABCD", "A1B2C3"], "snr": [10.5, 3.0, 7.25],
                               "modulation": ["ADS-B"] * 3})


def adsb(folder: Path) -> Made:
    x, path = complex_noise(3, 3000), folder / "X_train_10Class.npy"
    np.save(path, as_pairs(x, np.float64))
    np.save(folder / "Y_train_10Class.npy", np.array([4, 0, 9]))
    return Made(path, x, 50e6, {"device_id": ["4", "0", "9"]})


def transmitter(folder: Path) -> Made:
    x, path = complex_noise(3, 600), folder / "enreg_re_00_17.bin"
    x.real.astype("<f4").tofile(path)
    x.imag.astype("<f4").tofile(folder / "enreg_im_00_17.bin")
    return Made(path, x, 5e6, {"device_id": ["17"] * 3})


def radarcomm(folder: Path) -> Made:
    import h5py

    keys = [("amdsb", "AM radio", -20, 699), ("bpsk", "Satcom", 0, 1), ("pulsed", "Airborne-detection", 18, 0)]
    x, path = complex_noise(3, 128), folder / "RadComDynamic.hdf5"
    with h5py.File(path, "w") as file:
        for key, row in zip(keys, x):
            file[str(key)] = np.concatenate([row.real, row.imag]).astype(np.float32)
    return Made(path, x, 10e6, {"modulation": ["AM-DSB", "BPSK", "Pulsed CW"], "snr": [-20.0, 0.0, 18.0],
                                "radar_segmentation": [None, None, "Airborne-detection"]})


def dronerfa(folder: Path) -> Made:
    import h5py

    x, path = complex_noise(2 * 1024 + 3), folder / "T0101_D10_S1001.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in (("RF0_I", x.real * 0), ("RF0_Q", x.imag * 0), ("RF1_I", x.real), ("RF1_Q", x.imag)):
            file[name] = values.astype(float)[None]
    return Made(path, x[: 2 * 1024].reshape(2, 1024), 100e6,
                {"device_id": ["T0101"] * 2, "transmission_id": ["T0101_D10_S1001/RF1"] * 2})


MAKERS: dict[str, Callable[[Path], Made]] = {
    "RML2016.10A": rml2016("RML2016.10A", "RML2016.10a_dict.pkl", ("QPSK", "AM-SSB"), (2, 2)),
    "RML2016.10B": rml2016("RML2016.10B", "RML2016.10b.dat", ("QAM64", "8PSK"), (2, 2)),
    "RML2016.04C": rml2016("RML2016.04C", "RML2016.04C.multisnr.pkl", ("WBFM", "PAM4"), (3, 1)),
    "RML2018.01A": rml2018, "RadChar": radchar, "HisarMod2019.1": hisarmod, "Panoradio HF": panoradio, "WiSig": wisig,
    "POWDER": powder, "Northeastern RF": northeastern, "LoRa RF": lora, "Mono Receiver": mono_receiver, "ADS-B": adsb,
    "Transmitter Classification": transmitter, "RadarCommDataset": radarcomm, "DroneRFa": dronerfa,
}  # fmt: skip
