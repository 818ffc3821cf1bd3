"""Keys of stream tags and messages, as text. The blocks intern them as PMT symbols, once."""

# Tags that UHD and other sources put on the stream.
RX_TIME = "rx_time"  # tuple (uint64 whole seconds, double fraction)
RX_RATE = "rx_rate"  # double, samples a second
RX_FREQ = "rx_freq"  # double, Hz

# One tag a head on the window's first sample: emind_modulation, emind_interference, ...
HEAD_PREFIX = "emind_"

# Between windowing and overlap_add an item is a window. Two tags carry what its sample offset cannot:
# emind_window, on each window that says something new (the first, a zero-filled one, the first behind a gap, the
# first where rate, frequency or time became known): dict of WINDOW_START (uint64, absolute sample of the window's
# first sample), WINDOW_HOP (long, samples), WINDOW_VALID (long, samples that are signal and not zero fill),
# WINDOW_GAP (#t right behind a gap, else absent), and RX_RATE, RX_FREQ, RX_TIME of the first sample where known.
# The windows behind it are whole and lie WINDOW_HOP samples apart, until the next such tag.
# emind_stream_tag, one for each tag of the stream, on the first window that holds its sample: dict of
# STREAM_TAG_SAMPLE (uint64, absolute sample), STREAM_TAG_KEY, STREAM_TAG_VALUE and STREAM_TAG_SOURCE.
WINDOW = "emind_window"
WINDOW_START = "start"
WINDOW_HOP = "hop"
WINDOW_VALID = "valid"
WINDOW_GAP = "gap"
STREAM_TAG = "emind_stream_tag"
STREAM_TAG_SAMPLE = "sample"
STREAM_TAG_KEY = "key"
STREAM_TAG_VALUE = "value"
STREAM_TAG_SOURCE = "source"

# On the streams that reconstruction heads make, beside the answers: emind_reconstruction on the first sample of each
# window from which on something else holds: the symbol RECONSTRUCTED, or why the input passes in its place.
RECONSTRUCTION = "emind_reconstruction"
RECONSTRUCTED = "reconstructed"
SKIPPED = "skipped"
GATED = "gated"

# Entries of a head's tag. A regression's parameters stand beside them under their own names, in SI units, but not where
# the label is `unknown`.
LABEL = "label"  # absent where a head has no classes
CONFIDENCE = "confidence"  # of the label
LENGTH = "length"
FAMILY = "family"  # of a modulation
SCORE = "score"  # of an anomaly head: probability that the window is anomalous
OUTSIDE = "outside_training"  # #t where the head was trained on windows of another length or rate, else absent

# Message ports of the inference block.
PORT_DETECTIONS = "detections"
DETECTIONS_LIMIT = 4096  # that are pending at a receiver at most, where a block is not told otherwise
PORT_STATISTICS = "statistics"
PORT_DETECTIONS_ACK = "detections_ack"  # in: a receiver has dealt with a detection, or with as many as an integer says
PORT_WEIGHTS = "weights"  # in: name or path of other weights, as a symbol, or a pair or dict with the key "weights"

# Entries of a detection besides one for each head.
SAMPLE_START = "sample_start"
SAMPLE_COUNT = "sample_count"
SNR_DB = "snr_db"
LATENCY_MS = "latency_ms"

# Entries of a statistics message.
STATISTICS_KEYS = (
    "windows_seen", "windows_inferred", "windows_skipped", "windows_gated", "gaps",
    "queue_depth", "latency_ms_p50", "latency_ms_p99", "backend", "weights",
    # Why windows were skipped: the policy did not choose them or they found no room; no answer in time; the engine
    # raised; the stream ended. Answers that got lost (0). Detections sent, and not sent because too many were pending.
    "skipped_no_room", "skipped_late", "skipped_failed", "skipped_at_end", "results_lost",
    "detections_sent", "detections_dropped",
    # Times that the engine raised; longest wait of the stream for an answer.
    "engine_errors", "stall_ms_max",
)
# In statistics only where there are any: dict of heads to the windows that they answered outside of their training.
WINDOWS_OUTSIDE = "windows_outside_training"


def head_key(head: str) -> str:
    """Key of the tag that carries a head's answer."""
    return HEAD_PREFIX + head
