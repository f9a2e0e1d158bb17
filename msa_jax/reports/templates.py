"""The pages' templates: what is filled in is shown as text, and a name that is missing is an error."""

from typing import Any

import jinja2


def render(name: str, **values: Any) -> str:
    """A page as HTML.

    Args:
      name: of the template, a file beside this one.
      values: what it shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("msa_jax.reports", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)
