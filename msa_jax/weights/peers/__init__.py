"""All public PyTorch classes whose weights we read, by our name of the model."""

from msa_jax.weights.layers import PeerModel
from msa_jax.weights.peers import (
    decoupled,
    fusion,
    global_tokens,
    hyper,
    injected,
    labels,
    mfn,
    restored,
    subspaces,
    transformers,
    translation,
)

PEERS: dict[str, PeerModel] = {
    "ef_lstm": fusion.EF_LSTM,
    "lf_dnn": fusion.LF_DNN,
    "tfn": fusion.TFN,
    "lmf": fusion.LMF,
    "mfn": mfn.MFN,
    "graph_mfn": mfn.GRAPH_MFN,
    "mfm": mfn.MFM,
    "mlf_dnn": fusion.MLF_DNN,
    "mtfn": fusion.MTFN,
    "mlmf": fusion.MLMF,
    "mult": transformers.MULT,
    "mctn": translation.MCTN,
    "tmt": transformers.TMT,
    "misa": subspaces.MISA,
    "mmim": subspaces.MMIM,
    "self_mm": labels.SELF_MM,
    "tetfn": labels.TETFN,
    "almt": hyper.ALMT,
    "mag_bert": injected.MAG_BERT,
    "cenet": injected.CENET,
    "emt_dlfr": global_tokens.EMT_DLFR,
    "tfr_net": restored.TFR_NET,
    "lnln": hyper.LNLN,
    "dlf": decoupled.DLF,
}
