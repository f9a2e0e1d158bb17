"""Why a model gives a clip its score."""
