"""Networks and objectives of the user, ``module:name`` in the analysis file, behind a flag."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from click.testing import CliRunner

from difana._errors import ConfigError, InputError
from difana.analysis import (
    AnalysisResult,
    NetworkOptions,
    TrainingOptions,
    apply,
    check,
    evaluate_from,
    load,
    log_objective,
    new_network,
    observable_of,
    observe,
    own_code,
    read_config,
    run,
)
from difana.analysis.network import network_for
from difana.analysis.stages import stages_of
from difana.cli import main
from difana.data import Events, Sample, read_events
from difana.infer import expected_limits
from difana.likelihood import Channel, NormFactor, StatError, Template, build_model
from tests.analysis.conftest import fill, write_yaml

MODULE = '''
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp

from difana.infer import expected_limits
from difana.losses import objective

Path(__file__).with_suffix(".imported").touch()


class Gated(eqx.Module):
    gates: jax.Array
    weights: jax.Array
    power: int

    def __init__(self, features, outputs, *, key, power=1):
        self.gates = jnp.zeros(features)
        self.weights = jax.random.normal(key, (features, outputs))
        self.power = power

    def __call__(self, x):
        return (x * jax.nn.sigmoid(self.gates)) ** self.power @ self.weights


def log_limit(model):
    """The logarithm of the median expected limit."""
    return jnp.log(expected_limits(model, median_only=True).median)


def per_bin(model):
    return model.expected_main(model.init)


def one_output(features, outputs, *, key):
    return eqx.nn.Lambda(lambda x: x[:, :1] * 1.0)


class Narrow(Gated):
    def __call__(self, x):
        return x[:, :1] * self.gates[0]


NUMBER = 3
'''


def module(folder: Path, name: str, text: str = MODULE) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def code(name: str, **training: Any) -> Callable[[dict[str, Any]], None]:
    def edit(config: dict[str, Any]) -> None:
        config["Network"] = {"Type": f"{name}:Gated", "Options": {"power": 1}}
        config["Training"] |= {"Objective": f"{name}:log_limit", **training}

    return edit


def forget() -> None:
    """Let Python forget the modules of the tests, as a new process has."""
    for name in [name for name in sys.modules if name.startswith(("own_", "not_allowed"))]:
        del sys.modules[name]
    own_code._imported.clear()


@pytest.fixture(autouse=True)
def new_process() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> AnalysisResult:
    """A finished run with a network and an objective of a module beside the file."""
    folder = fill(tmp_path_factory.mktemp("coded"))
    module(folder, "own_analysis")
    path = write_yaml(folder / "analysis.yaml", code("own_analysis"))
    return run(path, folder / "out", progress=False, allow_code=True)


def invoke(*words: Any) -> tuple[int, str]:
    found = CliRunner().invoke(main, [str(word) for word in words])
    return found.exit_code, found.output


@pytest.mark.parametrize("named", ["Network.Type", "Training.Objective"])
def test_nothing_is_imported_without_the_flag(
    named: str, folder: Path, write_config: Callable[..., Path]
) -> None:
    module(folder, "not_allowed")
    section, key = named.split(".")
    name = {"Type": "Gated", "Objective": "log_limit"}[key]
    path = write_config(lambda c: c[section].update({key: f"not_allowed:{name}"}))
    line = next(n for n, t in enumerate(path.read_text().splitlines(), 1) if f"{key}: not_" in t)
    for act in (read_config, check, lambda path: run(path, folder / "out")):
        with pytest.raises(ConfigError) as caught:
            act(path)
        said = str(caught.value)
        assert f"analysis.yaml:{line}: {named} 'not_allowed:{name}' is code" in said
        assert "--allow-code" in said
        assert "allow_code=True" in said
    for words in (("run", path, "--out", folder / "out"), ("run", "--check", path)):
        status, said = invoke(*words)
        assert (status, "--allow-code" in said) == (2, True)
    assert not (folder / "not_allowed.imported").exists()
    assert "not_allowed" not in sys.modules
    assert not (folder / "out").exists()


def test_a_result_imports_nothing_without_the_flag(
    coded: AnalysisResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever loads it: its own network, apply, evaluate --from."""
    monkeypatch.chdir(coded.out.parent)
    (coded.out.parent / "own_analysis.imported").unlink()
    source, target = coded.out.parent / "ntuples" / "signal.root", tmp_path / "out.root"
    acts: list[Callable[[], Any]] = [
        lambda: observable_of(coded.out),
        lambda: apply(coded.out, source, target),
        lambda: evaluate_from(coded.out, coded.config.path, tmp_path / "new", progress=False),
    ]
    for act in acts:
        with pytest.raises(ConfigError, match="is code, which is not imported unless you allow it"):
            act()
    for words in (
        ("apply", coded.out, source, target),
        ("evaluate", coded.config.path, "--from", coded.out, "--out", tmp_path / "new"),
    ):
        status, said = invoke(*words)
        assert (status, "--allow-code" in said) == (2, True)
    assert "own_analysis" not in sys.modules
    assert not (coded.out.parent / "own_analysis.imported").exists()
    assert not target.exists()


def test_it_runs_and_is_on_record(coded: AnalysisResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(coded.out.parent)
    summary = json.loads((coded.out / "result.json").read_text())
    used = summary["code"]
    assert {key: own["name"] for key, own in used.items()} == {
        "Network.Type": "own_analysis:Gated",
        "Training.Objective": "own_analysis:log_limit",
    }
    assert summary["options"]["network"]["type"] == "own_analysis:Gated"
    sha = used["Network.Type"]["sha256"]
    assert f"Network.Type is code: own_analysis:Gated (sha256 {sha[:12]})" in summary["notes"]
    assert {"cross-entropy", "efficient score", "own_analysis:log_limit"} == {
        record["stage"] for record in coded.history
    }
    assert coded.ok, coded.message
    assert type(observable_net(coded)).__name__ == "Gated"


def observable_net(result: AnalysisResult) -> Any:
    net = observable_of(result.out, allow_code=True).net
    net = net.nets[0] if hasattr(net, "nets") else net
    return net.net.net


def test_apply_and_evaluate_take_it(
    coded: AnalysisResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(coded.out.parent)
    source, target = coded.out.parent / "ntuples" / "signal.root", tmp_path / "out.root"
    status, said = invoke(
        "apply", coded.out, source, target, "--allow-code", "--sample", "signal", "--quiet"
    )
    assert status == 0, said
    score = np.asarray(read_events(target, columns=["fill(difana_score, 0)"]).features)
    assert np.ptp(score) > 0
    again = evaluate_from(
        coded.out, coded.config.path, tmp_path / "new", progress=False, allow_code=True
    )
    assert again.trained.limits == coded.trained.limits
    seen = observe(observable_of(coded.out, allow_code=True).net, load(coded.config).test)
    np.testing.assert_array_equal(seen[0].nominal.x, coded.scores["difana"]["SR"][0].nominal.x)


def test_a_changed_module_is_refused_by_a_result(
    coded: AnalysisResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where another module of this name lies
    forget()
    module(tmp_path, "own_analysis", MODULE.replace("sigmoid", "tanh"))
    with pytest.raises(InputError, match="'own_analysis' is not the one of the run"):
        observable_of(coded.out, allow_code=True)


def test_a_changed_module_trains_again(folder: Path, write_config: Callable[..., Path]) -> None:
    path = module(folder, "own_changing")
    config = read_config(write_config(code("own_changing")), allow_code=True)
    loaded = load(config)
    before = stages_of(config, loaded)
    path.write_text(MODULE.replace("sigmoid", "tanh"))
    with pytest.raises(ConfigError, match="changed after it was imported: start again"):
        read_config(config.path, allow_code=True)
    forget()
    after = stages_of(read_config(config.path, allow_code=True), loaded)
    for stage, name in (("classify", "Network.Type"), ("train", "Training.Objective")):
        assert dict(before[stage])[name] != dict(after[stage])[name]


WRONG = {
    "no module": ("no_such_module:Gated", "there is no module 'no_such_module'"),
    "no attribute": ("own_wrong:Gatedd", "has no 'Gatedd'. Did you mean 'Gated'?"),
    "a number": ("own_wrong:NUMBER", "it is a int, which cannot be called"),
    "an error": ("own_broken:Gated", "importing 'own_broken' fails with ZeroDivisionError"),
    "an exit": ("own_exit:Gated", "importing 'own_exit' fails with SystemExit"),
    "no file": ("sys:exit", "module 'sys' has no file"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("named", ["Network.Type", "Training.Objective"])
def test_what_cannot_be_imported_is_named(
    case: str, named: str, folder: Path, write_config: Callable[..., Path]
) -> None:
    module(folder, "own_wrong")
    module(folder, "own_broken", "1 / 0")
    module(folder, "own_exit", "import sys; sys.exit(3)")
    text, message = WRONG[case]
    section, key = named.split(".")
    path = write_config(lambda c: c[section].update({key: text}))
    with pytest.raises(ConfigError) as caught:
        read_config(path, allow_code=True)
    line = next(n for n, t in enumerate(path.read_text().splitlines(), 1) if f"{key}: " in t
                and text in t)  # fmt: skip
    assert f"analysis.yaml:{line}: {named} '{text}': " in str(caught.value)
    assert message in str(caught.value)


SAMPLES = [Sample(Events(np.ones((4, 2), np.float32), np.ones(4)), name="s")]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "Gated",
            {"height": 3},
            "features=2, outputs=3, height=3.*TypeError",
        ),
        ("one_output", {}, "without weights"),
        ("Narrow", {}, r"returns shape \(2, 1\) for 2 events, \(2, 3\) is needed"),
        ("log_limit", {}, "makes no network"),
    ],
)
def test_a_maker_that_makes_no_network_is_named(
    name: str, options: dict[str, Any], message: str, folder: Path,
    write_config: Callable[..., Path],
) -> None:  # fmt: skip
    module(folder, "own_makers")

    def edit(config: dict[str, Any]) -> None:
        config["Network"] = {"Type": f"own_makers:{name}", "Options": options}

    own = read_config(write_config(edit), allow_code=True).network
    with pytest.raises(ConfigError, match=message):
        network_for(own, SAMPLES, outputs=3)(jax.random.key(0))


def channel() -> Channel:
    error = StatError(np.array([1.0, 1.0]), "stat")
    templates = (Template(np.array([2.0, 5.0]), (NormFactor("mu"),), name="s"),
                 Template(np.array([50.0, 20.0]), (error,), name="b"))  # fmt: skip
    return Channel(templates, name="SR")


def test_an_objective_is_a_function_of_a_model(
    folder: Path, write_config: Callable[..., Path]
) -> None:
    module(folder, "own_objectives")
    chosen = {}
    for name in ("log_limit", "per_bin"):
        edit = code("own_objectives", Objective=f"own_objectives:{name}", MinimumEvents=0)
        chosen[name] = read_config(write_config(edit), allow_code=True).training
    limit = float(expected_limits(build_model([channel()]), median_only=True).median)
    found = float(log_objective(chosen["log_limit"])(channel()))
    assert found == pytest.approx(np.log(limit), rel=1e-9)
    with pytest.raises(ConfigError, match=r"'own_objectives:per_bin' must return one number"):
        log_objective(chosen["per_bin"])(channel())


def test_options_without_code_and_code_that_was_not_read_are_refused(
    write_config: Callable[..., Path],
) -> None:
    with pytest.raises(ConfigError, match=r"Network.Options are those of code of yours"):
        read_config(write_config(lambda c: c["Network"].update(Options={"a": 1})))
    with pytest.raises(ConfigError, match="code that was not imported"):
        new_network(NetworkOptions(type="os:system"), SAMPLES, key=jax.random.key(0))
    with pytest.raises(ConfigError, match="code that was not imported"):
        log_objective(TrainingOptions(objective="os:system"))
    with pytest.raises(ConfigError, match=r"must be one of 'mlp', .*or code of yours"):
        read_config(write_config(lambda c: c["Network"].update(Type="os.system('ls')")))
    own = {"Type": "m:N", "Options": {"a": {"b": 1}}}
    with pytest.raises(ConfigError, match=r"Network.Options.a must be a text, a number"):
        read_config(write_config(lambda c: c["Network"].update(own)))
