from __future__ import annotations

import tomllib

import pytest

from edgelstm.compression.recipe import Export, Recipe, parse_recipe, read_recipe
from edgelstm.converters.stages import STAGES, find_stage, make_stage
from edgelstm.errors import LoadError, SettingError

TEXT = """
seed = 3

[[stage]]
kind = "prune-units"
fraction = 0.25
importance = "taylor"

[[stage]]
kind = "prune"
sparsity = 0.5
block = "1x4"

[export]
quantize = "int8"
"""


@pytest.fixture
def file(tmp_path):
    def write(text: str):
        path = tmp_path / "r.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_recipe_has_its_stages_in_order_with_their_settings(file):
    recipe = read_recipe(file(TEXT))
    assert [stage.name for stage in recipe.stages] == ["prune-units", "prune"]
    assert (recipe.seed, recipe.export.quantize) == (3, "int8")
    assert recipe.stages[0].values["fraction"] == 0.25
    assert recipe.stages[0].values["importance"] == "taylor"
    assert recipe.stages[1].values["block"] == "1x4"
    assert recipe.stages[1].values["sparsity"] == 0.5


def test_what_is_written_is_read_to_the_same_recipe(file):
    recipe = read_recipe(file(TEXT))
    again = read_recipe(file(recipe.to_toml()))
    assert again.to_json() == recipe.to_json() == parse_recipe(recipe.to_json()).to_json()
    assert tomllib.loads(recipe.to_toml())["stage"][0]["multiple_of"] == 1


def test_nothing_is_a_recipe_too(file):
    assert read_recipe(file("")).to_json() == Recipe().to_json()


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_can_be_written_with_its_defaults(name, file):
    stage = make_stage(name, {})
    assert find_stage(name).name == stage.name == name
    assert all(setting.help and not setting.help.endswith(".") for setting in stage.settings.values())
    recipe = Recipe((stage,), Export("int8"))
    assert read_recipe(file(recipe.to_toml())).stages[0].values == stage.values


@pytest.mark.parametrize(
    "text, message",
    [
        ('[[stage]]\nkind = "prune-unit"', r"Stage 1: There is no stage 'prune-unit'\. Did you mean 'prune-units'\?"),
        ('[[stage]]\nkind = "prune"\nsparcity = 0.5', r"Stage 1: Stage 'prune' has no setting 'sparcity'\. Did you"),
        ('[[stage]]\nkind = "prune"\nsparsity = 1.0', "Setting 'sparsity' of stage 'prune' must be"),
        ('[[stage]]\nkind = "prune"\nsparsity = -0.1', "Setting 'sparsity' of stage 'prune' must be"),
        ('[[stage]]\nkind = "prune-units"\nfraction = 1', "Setting 'fraction' of stage 'prune-units' must be"),
        ('[[stage]]\nkind = "prune-units"\nsteps = 1.5', "must be a whole number, not 1.5"),
        ('[[stage]]\nkind = "prune-units"\nsteps = true', "must be a whole number, not True"),
        ("[[stage]]\nsparsity = 0.5", "Stage 1 has no kind"),
        ("seed = -1", "The seed must be a whole number of at least 0, not -1"),
        ("sead = 1", r"A recipe has no 'sead'\. Did you mean 'seed'\?"),
        ("stage = 3", r"Stages are tables: begin each with \[\[stage\]\]"),
        ("[export]\nquantise = 'int8'", r"\[export\] has no 'quantise'\. Did you mean 'quantize'\?"),
        ("[export]\nquantize = 'int4'", "quantize = 'int4' is not known, only float32"),
        ("export = 1", r"\[export\] is a table"),
    ],
)
def test_what_is_wrong_is_named_with_the_nearest(text, message, file):
    with pytest.raises(SettingError, match=message):
        read_recipe(file(text))


def test_a_file_that_is_no_recipe_is_told(file, tmp_path):
    with pytest.raises(LoadError, match=r"is no TOML"):
        read_recipe(file("[[stage"))
    with pytest.raises(LoadError, match=r"Cannot read the recipe .*no such file"):
        read_recipe(tmp_path / "none.toml")


QAT = [{"kind": "qat"}]


@pytest.mark.parametrize(
    "document, words",
    [
        ({"export": {"quantize": ["int8"]}}, r"quantize = \['int8'\] is not known"),
        ({"export": {"layers": {"encoder": {"lstm": "float32"}}}}, "is not known, only"),
        ({"export": {"layers": "float32"}}, "is a table"),
        ({"export": {"quantize": "dynamic", "layers": {"lstm": "int8"}}}, "needs quantize = 'int8'"),
        ({"export": {"strip_names": "yes"}}, "strip_names must be true or false"),
        ({"guard": {"max_drop": -1}}, "max_drop must be at least 0"),
        ({"guard": {"maxdrop": 1}}, "Did you mean 'max_drop'"),
        ({"guard": 1}, "is a table with max_drop in it"),
        ({"guard": {"judged_in": {"quantize": "int4"}}}, "'int4' is not known"),
        ({"stage": [*QAT, {"kind": "prune"}], "export": {"quantize": "int8"}}, "'qat' must be the last stage"),
        ({"stage": QAT, "export": {"quantize": "dynamic"}}, "'qat' trains for int8, and the file is to be dynamic"),
    ],
)
def test_exports_and_guards_that_make_no_sense_are_refused(document, words):
    with pytest.raises(SettingError, match=words):
        parse_recipe(document)


def test_a_guarded_recipe_is_read_as_it_was_written(file):
    recipe = Recipe(
        (make_stage("prune", {}),),
        Export("int8", {"encoder/lstm": "float16"}, strip_names=True),
        1.5,
        Export("dynamic"),
    )
    again = read_recipe(file(recipe.to_toml()))
    assert again.to_json() == recipe.to_json()
    assert (again.export, again.max_drop, again.judged_in) == (recipe.export, 1.5, recipe.judged_in)
    assert read_recipe(file("[guard]")).max_drop == 0.5
    assert read_recipe(file("")).max_drop is None
    # What a guard has found may export what was trained for int8 in another precision.
    assert parse_recipe({"stage": QAT, "guard": {}}).max_drop == 0.5
