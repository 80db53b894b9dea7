"""Published networks of two times, and adapters, through `trigbench convert --family` to what samples."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.core.test_imf import imf_state, imf_written
from tests.core.test_public_maps import HEADS, as_fastgen, as_tree, ctm_state, meanflow_state, mf_unet_state
from tests.core.test_published_adapters import ALPHA, NETWORKS, RANK, as_kohya, in_peft
from tests.core.test_teachers import without
from trigbench.cli import main
from trigbench.core.low_rank import merged
from trigbench.core.networks.ctm import ctm_jump, ctm_network
from trigbench.core.networks.families import ADAPTER, PUBLISHED
from trigbench.core.networks.imf import imf_jump, imf_network
from trigbench.core.networks.meanflow import meanflow_jump, meanflow_network
from trigbench.core.networks.meanflow_unet import meanflow_unet, meanflow_unet_jump
from trigbench.core.published_adapters import METADATA, adapter_from
from trigbench.core.samplers.jumps import sample_jumps
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.converting import convert
from trigbench.workflow.machine.named import named
from trigbench.workflow.machine.tensors import read_tensors, write_tensors
from trigbench.workflow.run.maps import open_map
from trigbench.workflow.run.teachers import open_edm_network
from trigbench.workflow.study.converted import header_of


def single(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in state.items()}


def sampled(jump, channels: int, height: int = 8, width: int = 8) -> Tensor:
    noise = torch.randn(2, 2, channels, height, width, generator=torch.Generator().manual_seed(0))
    return sample_jumps(jump, noise, (1.5, 0.8))


def test_a_converted_map_samples_as_the_published_network(tmp_path: Path, capsys) -> None:
    labels = torch.tensor([2, 0])
    states = {"meanflow": single(meanflow_state()), "ctm": single(ctm_state()), "imf": single(imf_state())}
    core = {
        "meanflow": meanflow_jump(meanflow_network(states["meanflow"], HEADS), 0.5, labels),
        "ctm": ctm_jump(ctm_network(states["ctm"]), 0.5, labels),
        "imf": imf_jump(imf_network(states["imf"]), 0.5, labels),
    }
    shapes = {"meanflow": (4, 8, 8), "ctm": (3, 8, 8), "imf": (4, 32, 32)}
    for family, state in states.items():
        source, target = tmp_path / f"{family}.pt", tmp_path / f"{family}.safetensors"
        torch.save({"step": 3, "ema": state}, source)
        main(["convert", str(source), str(target), "--entry", "ema", "--family", family])
        assert capsys.readouterr().out.startswith(f"{target}: {len(state)} tensors")
        jump = open_map(target, family, 0.5, labels, heads=HEADS if family == "meanflow" else None)
        ours, exact = (sampled(j, *shapes[family]) for j in (jump, core[family]))
        assert torch.equal(ours, exact) and not ours.requires_grad and ours.abs().max() > 0.1


def test_what_a_map_is_told_is_used_or_refused(tmp_path: Path) -> None:
    labels = torch.tensor([2, 0])
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("labelled", "alone", "meanflow", "imf")}
    state = single(ctm_state())
    write_tensors(paths["labelled"], state)
    write_tensors(paths["alone"], {name: tensor for name, tensor in state.items() if ".map_label." not in name})
    write_tensors(paths["meanflow"], single(meanflow_state()))
    write_tensors(paths["imf"], tensors := single(imf_written()))
    assert open_map(paths["alone"], "ctm", 0.5)
    refused: list[tuple[str, str, dict, str]] = [
        ("labelled", "ctm", {}, r"is told labels(.|\n)*labelled.safetensors(.|\n)*labels(.|\n)*0 to"),
        ("alone", "ctm", {"labels": labels}, r"is told no labels(.|\n)*alone.safetensors(.|\n)*leave it out"),
        ("labelled", "ctm", {"labels": labels, "heads": 4}, r"how many heads(.|\n)*heads(.|\n)*leave it out"),
        ("labelled", "ctm", {"labels": labels, "smallest": 0.0}, r"above 0(.|\n)*smallest"),
        ("meanflow", "meanflow", {"labels": labels, "heads": HEADS, "smallest": 0.1}, r"no least(.|\n)*smallest"),
        ("meanflow", "meanflow", {"scale": 2.0}, r"MeanFlow's networks are told no guidance(.|\n)*scale"),
        ("labelled", "ctm", {"labels": labels, "interval": (0.0, 1.0)}, r"told no guidance(.|\n)*interval"),
        ("imf", "imf", {"smallest": 0.1}, r"no least(.|\n)*smallest(.|\n)*leave it out"),
        ("imf", "imf", {"heads": 2}, r"how many heads(.|\n)*heads"),
        ("imf", "imf", {"scale": 0.5}, r"of a scale from 1(.|\n)*scale"),
        ("imf", "imf", {"scale": 2.0, "interval": (0.6, 0.4)}, r"begin at 0 to 0.5(.|\n)*interval"),
    ]
    for name, family, told, words in refused:
        with pytest.raises(BenchError, match=words):
            open_map(paths[name], family, 0.5, **told)
    least, other = (open_map(paths["labelled"], "ctm", 0.5, labels, smallest=value) for value in (0.002, 0.5))
    exact = sampled(ctm_jump(ctm_network(state), 0.5, labels), 3)
    assert torch.equal(sampled(least, 3), exact) and not torch.equal(sampled(other, 3), exact)
    guided = open_map(paths["imf"], "imf", 0.5, labels, scale=8.0, interval=(0.4, 0.65))
    exact = sampled(imf_jump(imf_network(tensors), 0.5, labels, 8.0, (0.4, 0.65)), 4, 32, 32)
    plain = sampled(open_map(paths["imf"], "imf", 0.5, labels), 4, 32, 32)
    assert torch.equal(sampled(guided, 4, 32, 32), exact) and not torch.equal(plain, exact)


def test_of_meanflows_unet_the_averaged_network_is_written_and_sampled(tmp_path: Path) -> None:
    state, path = single(mf_unet_state()), tmp_path / "map.safetensors"
    whole = {f"{net}.{name}": tensor for net in ("net_ema", "net") for name, tensor in state.items()}
    torch.save({"model": whole | {"num_updates": torch.tensor(7)}}, tmp_path / "unet.pt")
    assert convert(tmp_path / "unet.pt", path, "model", "meanflow").keys() == state.keys()
    exact = sampled(meanflow_unet_jump(meanflow_unet(state), 0.5), 3)
    assert torch.equal(sampled(open_map(path, "meanflow", 0.5), 3), exact)
    with pytest.raises(BenchError, match="told no labels"):
        open_map(path, "meanflow", 0.5, torch.tensor([1, 2]))


def test_the_authors_tree_becomes_the_same_file(tmp_path: Path) -> None:
    state = single(meanflow_state(256))
    torch.save(as_tree(state), tmp_path / "jax.pt")
    tensors = convert(tmp_path / "jax.pt", tmp_path / "map.safetensors", family="meanflow")
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) for name in state if name != "pos_embed")


def test_a_consistency_model_of_fastgens_becomes_a_teacher(tmp_path: Path) -> None:
    state = single(as_fastgen("edm2"))
    torch.save(state, tmp_path / "scm.pt")
    convert(tmp_path / "scm.pt", tmp_path / "scm.safetensors", family="scm")
    tensors = open_edm_network(tmp_path / "scm.safetensors").state_dict()
    assert all(torch.equal(t, state[f"unet.{name}"].reshape(t.shape)) for name, t in tensors.items())
    assert header_of(tmp_path / "scm.safetensors").classes == 3


def test_a_converted_adapter_is_merged_at_a_scale_of_one(tmp_path: Path, capsys) -> None:
    network = NETWORKS["DiT"]
    weights, state = dict(network.named_parameters()), in_peft(network)
    for name, tensors in {"of": weights, "kohya": as_kohya(state, ALPHA), "peft": state}.items():
        write_tensors(tmp_path / f"{name}.safetensors", tensors)
    files = {name: str(tmp_path / f"{name}.safetensors") for name in ("of", "kohya", "peft", "a", "b")}
    main(["convert", files["kohya"], files["a"], "--family", "lora", "--of", files["of"]])
    main(["convert", files["peft"], files["b"], "--family", "lora", "--alpha", str(ALPHA)])
    exact = merged(weights, (adapter_from(state, weights, ALPHA), 1.0))
    for name in ("a", "b"):
        found = merged(weights, (read_tensors(Path(files[name]), ""), 1.0))
        assert all(torch.equal(found[weight], exact[weight]) for weight in exact)
    assert "tensors" in capsys.readouterr().out


def test_a_converted_adapter_has_the_alpha_of_the_file_s_metadata(tmp_path: Path) -> None:
    state, (source, target) = in_peft(NETWORKS["DiT"]), (tmp_path / f"{name}.safetensors" for name in "ab")
    plain = {name.replace("base_model.model.", "unet."): tensor for name, tensor in state.items()}
    said = {"unet.r": RANK, "unet.lora_alpha": RANK / 4, "unet.use_rslora": False}
    save_file(plain, source, metadata={METADATA: json.dumps(said)})
    found = convert(source, target, family="lora")
    exact = adapter_from(state, None, RANK / 4)
    assert found.keys() == exact.keys() and all(torch.equal(found[name], exact[name]) for name in exact)
    with pytest.raises(BenchError, match=r"metadata say lora_alpha 0.75(.|\n)*--alpha(.|\n)*leave it out"):
        convert(source, target, family="lora", alpha=2.0)
    save_file(plain, source, metadata={METADATA: json.dumps(said | {"unet.use_rslora": True})})
    with pytest.raises(BenchError, match=r"say unet.use_rslora(.|\n)*a.safetensors"):
        convert(source, target, family="lora")


def test_what_a_family_refuses_names_file_key_and_remedy(tmp_path: Path) -> None:
    source, target = tmp_path / "net.pt", tmp_path / "net.safetensors"
    state = single(meanflow_state())
    torch.save({"ema": without(state, "blocks.1.mlp.fc2.bias") | {"strange": torch.ones(1)}}, source)
    with pytest.raises(BenchError, match=r"missing: blocks\.1\.mlp\.fc2\.bias; unexpected: strange") as caught:
        convert(source, target, "ema", "meanflow")
    said = str(caught.value)
    assert "net.pt" in said and "--family meanflow" in said and "--entry" in said and "docs/teachers.md" in said
    for family, reason in {"imf": "not of iMF's DiT; missing: class_tokens", "ayf": "no weights"}.items():
        with pytest.raises(BenchError, match=rf"{reason}(.|\n)*--family {family}"):
            convert(source, target, "ema", family)
    with pytest.raises(BenchError, match=r"second time(.|\n)*--family ctm"):
        convert(source, target, "ema", "ctm")
    assert not target.exists()


def test_options_that_say_nothing_here_are_refused(tmp_path: Path) -> None:
    source, target = tmp_path / "net.pt", tmp_path / "out.safetensors"
    adapter = tmp_path / "adapter.safetensors"
    torch.save(single(meanflow_state()), source)
    write_tensors(adapter, in_peft(NETWORKS["DiT"]))
    refused = [
        ((source, target, None, None, adapter), "--family"),
        ((source, target, None, None, None, 2.0), "--family lora"),
        ((source, target, None, "meanflow", adapter), "--of"),
        ((source, target, None, "meanflow", None, 2.0), "--alpha"),
        ((adapter, target, None, "lora", None, 0.0), "a number above 0"),
        ((adapter, target, None, "lora", None, float("nan")), "a number above 0"),
        ((adapter, target, None, "lora", tmp_path / "none.safetensors", 2.0), "no such file"),
        ((adapter, target, None, "lora"), "lora_alpha"),
        ((adapter, target), "safetensors already"),
        ((adapter, target, "ema", "lora"), "no entries"),
        ((tmp_path / "none.safetensors", target, None, "lora"), "no such file"),
    ]
    for arguments, words in refused:
        with pytest.raises(BenchError, match=words):
            convert(*arguments)
    assert not target.exists()


def test_files_that_are_no_map_of_a_family_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    write_tensors(path, {"weight": torch.ones(2)})
    refused = {"meanflow": "neither layout", "ctm": "second time", "imf": "no DiT", "scd": "one of meanflow, ctm, imf"}
    for family, words in refused.items():
        with pytest.raises(BenchError, match=words) as caught:
            open_map(path, family, 0.5)
        assert "other.safetensors" in str(caught.value)


def test_the_command_offers_what_is_read_and_what_is_refused_with_a_reason(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    (offered,) = {*re.findall(r"--family \{([\w,]+)\}", capsys.readouterr().out)}
    assert offered.split(",") == [*(name for name in PUBLISHED if name != "edm"), ADAPTER]


def test_a_family_is_one_line_of_the_table_and_what_it_names() -> None:
    for name, known in PUBLISHED.items():
        assert bool(known.refused) != bool(known.written or known.header), name
        assert bool(known.map) == (known.is_map is not None) and (known.header is not None or not known.map), name
        assert all(callable(named(path)) for path in (known.written, known.map) if path), name
