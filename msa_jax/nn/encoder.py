"""The text encoder of any kind."""

from msa_jax.errors import ConfigError
from msa_jax.nn.bert import Bert, BertSettings
from msa_jax.nn.modernbert import ModernBert


def text_encoder(settings: BertSettings, pooler: bool = False, name: str | None = None) -> Bert | ModernBert:
    """The encoder of ``settings.kind``; both are called alike.

    Args:
      settings: its kind and sizes.
      pooler: whether the first token's state is pooled too.
      name: of the submodule.

    Raises:
      ConfigError: for a pooler of an encoder that has none.
    """
    if settings.kind != "modernbert":
        return Bert(settings, pooler, name=name)
    if pooler:
        raise ConfigError(
            "this model reads an encoder's pooler, which ModernBERT does not have; take a BERT or RoBERTa, "
            "or model.text_encoder=frozen."
        )
    return ModernBert(settings, name=name)
