"""From a training's arguments to what it starts from."""

from __future__ import annotations

import pytest

from molre_edge.errors import ConfigError
from molre_edge.training.options import ModelOptions, has_installed_weights


def test_only_a_backbone_whose_weights_a_package_holds_has_them_without_a_folder() -> None:
    assert has_installed_weights(ModelOptions(backbone="efficientnet-lite0"))
    assert has_installed_weights(ModelOptions(backbone="i3resnet152"))
    assert not has_installed_weights(ModelOptions())
    with pytest.raises(ConfigError, match="unknown 'efficientnet-lite1'; did you mean efficientnet-lite0"):
        has_installed_weights(ModelOptions(backbone="efficientnet-lite1"))
