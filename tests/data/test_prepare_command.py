"""The scripts that make tokenizers and tokens."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxseq.data import open_corpus, open_tokenizer
from jaxseq.data.bar import Bar
from jaxseq.data.prepare import prepare

ROOT = Path(__file__).parents[2]


def script(name, *flags):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "launch" / f"{name}.py"), *flags],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for i in range(300):
        (folder / f"{i:03}.txt").write_text(f"text number {i}\n" * 50)
    return folder


def test_a_trained_tokenizer_is_of_the_size_that_was_asked_for(texts, tmp_path):
    path = tmp_path / "tokenizer.json"
    process = script("train_tokenizer", f"--source={texts}", "--vocab=270", f"--to={path}")
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert open_tokenizer(str(path)).vocab == 270
    assert "tokenizer.json: 270 ids, bpe-" in output


@pytest.mark.slow
def test_after_kill_9_of_two_workers_another_call_makes_the_same_shards(texts, bpe, tmp_path):
    (tmp_path / "tokenizer.json").write_text(bpe.json)
    folder = tmp_path / "tokens"
    flags = [f"--source={texts}", f"--tokenizer={tmp_path}/tokenizer.json", f"--to={folder}"]
    process = script("prepare_data", *flags, "--shard_bytes=2000", "--workers=2")
    deadline = time.monotonic() + 120
    while not list(folder.glob("0*.json")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert not (folder / "manifest.json").exists(), "it was over before it was killed"
    expected = prepare(open_corpus(str(texts)), bpe, tmp_path / "expected", shard_bytes=2000)
    assert prepare(open_corpus(str(texts)), bpe, folder, shard_bytes=2000) == expected


def test_progress_is_a_line_for_each_shard(capsys):
    with Bar() as bar:
        for done in (0, 1, 1, 2):
            bar.show(done, 2)
    assert capsys.readouterr().out.splitlines() == ["shards 0/2", "shards 1/2", "shards 2/2"]
