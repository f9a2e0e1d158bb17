"""All public PyTorch classes whose weights we read, by our name of the model."""

from msa_jax.interop.layers import PeerModel
from msa_jax.interop.peers import fusion

PEERS: dict[str, PeerModel] = {
    "lf_dnn": fusion.LF_DNN,
}
