"""Class vocabularies and their families."""

# Modulation class -> family. The order is the order of the head's logits in the weights we release;
# a weights file carries its own list, this one is what the generators can make.
MODULATION_FAMILY: dict[str, str] = {
    "noise": "noise",
    "OOK": "ook-ask",
    "4ASK": "ook-ask",
    "BPSK": "psk",
    "QPSK": "psk",
    "OQPSK": "psk",
    "pi/4-DQPSK": "psk",
    "8PSK": "psk",
    "16QAM": "qam",
    "64QAM": "qam",
    "4PAM": "ook-ask",
    "2FSK": "fsk",
    "4FSK": "fsk",
    "GFSK": "fsk",
    "MSK": "fsk",
    "AM-DSB": "am",
    "AM-SSB": "am",
    "NFM": "fm",
    "WFM": "fm",
    "OFDM": "ofdm",
    "LoRa": "chirp",
    "LFM": "chirp",
    "ADS-B": "ppm",
}
MODULATIONS: tuple[str, ...] = tuple(MODULATION_FAMILY)
FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(MODULATION_FAMILY.values()))
NOISE = "noise"
UNKNOWN = "unknown"  # what a head says of a window that resembles none of its classes


def family_of(label: str) -> str:
    """Family of a modulation class; a class that is not in the vocabulary is a family of its own."""
    return MODULATION_FAMILY.get(label, label)
