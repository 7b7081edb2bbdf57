"""`mkmsr fetch` as people call it, and `mkmsr prepare` of a public data set."""

from __future__ import annotations

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mkmsr.cli.app import run

KKBOX = {
    "train.csv": "msno,song_id,source_system_tab,source_screen_name,source_type,target\n"
    + "".join(f"u{n % 9},s{n % 5},,{'Radio' if n % 2 else ''},,1\n" for n in range(200)),
    "songs.csv": "song_id,song_length,genre_ids,artist_name,composer,lyricist,language\ns1,1,465|458,A,,,3\n",
    "song_extra_info.csv": "song_id,name,isrc\ns1,x,TWUM71200043\n",
}


@pytest.fixture
def kkbox(tmp_path) -> Path:
    folder = tmp_path / "kkbox"
    folder.mkdir()
    for name, content in KKBOX.items():
        (folder / name).write_text(content)
    return folder


def test_without_a_name_all_data_sets_are_listed(capsys):
    assert run(["fetch", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"kkbox", "jdata", "otto"} <= {each["name"] for each in listed}
    assert run(["fetch"]) == 0
    assert "KKBOX, on Kaggle" in capsys.readouterr().out


def test_a_name_says_where_the_files_are_and_under_which_terms(capsys):
    assert run(["fetch", "retailrocket"]) == 0
    out = capsys.readouterr().out
    assert "https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset" in out
    assert "CC BY-NC-SA 4.0" in out
    assert "94,237,913 bytes" in out
    assert "mkmsr fetch retailrocket --verify" in out


def test_a_copy_of_another_size_is_a_failure_that_says_so(kkbox, capsys):
    assert run(["fetch", "kkbox", "--verify", str(kkbox), "--json"]) == 1
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert not document["ok"]
    assert document["files"][0]["problems"] == ["200 rows, should be 7,377,418"]
    assert document["files"][1]["problems"] == []
    assert "1 of 3 files are not as they should be" in captured.err


def test_an_empty_folder_is_no_copy(tmp_path, capsys):
    assert run(["fetch", "rees46", "--verify", str(tmp_path)]) == 1
    assert "holds none of the files" in capsys.readouterr().err


def test_a_data_set_behind_an_account_is_not_downloaded(tmp_path, capsys):
    assert run(["fetch", "kkbox", "--out", str(tmp_path)]) == 1
    assert "asks for an account and its terms to be accepted: https://www.kaggle.com/c/kkbox" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--verify", "x"], ["kkbox", "--verify", "x", "--out", "y"]])
def test_arguments_that_do_not_fit_together_are_a_wrong_call(arguments):
    assert run(["fetch", *arguments]) == 2


def test_the_demo_sample_is_downloaded_checked_and_prepared(shared_data, tmp_path, capsys, monkeypatch):
    if not (shared_data / "jdata_demo").is_dir():
        pytest.skip("the Demo sample is not beside the checkout")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    shelf = tmp_path / "shelf"
    unpack_demo(shared_data / "jdata_demo", shelf)
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(shelf))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_address[1]}"
        out = tmp_path / "demo"
        assert run(["fetch", "jdata-demo", "--out", str(out), "--mirror", mirror, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["fetched"] == 5
        assert run(["fetch", "jdata-demo", "--out", str(out), "--mirror", mirror, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["fetched"] == 0
        (shelf / "train.csv").write_text("something else")
        shutil.rmtree(out)
        assert run(["fetch", "jdata-demo", "--out", str(out), "--mirror", mirror]) == 1
        assert "bytes arrived, should be 1,491,596" in capsys.readouterr().err
        server.shutdown()


def unpack_demo(source: Path, target: Path) -> None:
    import gzip

    (target / "with_new_item").mkdir(parents=True)
    for name in ("train.csv", "test_new_item.csv", "with_new_item/entity2id", "with_new_item/kg2id"):
        (target / name).write_bytes(gzip.decompress((source / f"{name}.gz").read_bytes()))
    shutil.copy(source / "with_new_item" / "relation2id", target / "with_new_item" / "relation2id")


def test_a_public_data_set_is_prepared_by_one_command(kkbox, tmp_path, capsys):
    arguments = ["prepare", "kkbox", str(kkbox), "--out", str(tmp_path / "data"), "--json"]
    assert run([*arguments, "--relations", "genre,language"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["events"], document["operations"], document["relations"]) == (200, 2, 2)
    assert run([*arguments, "--relations", "none"]) == 0
    assert json.loads(capsys.readouterr().out)["relations"] == 0
    assert run([*arguments, "--relations", "gender"]) == 1
    assert "no relation 'gender', did you mean 'genre'?" in capsys.readouterr().err


def test_malformed_rows_are_reported_and_refused_on_request(kkbox, tmp_path, capsys):
    with (kkbox / "train.csv").open("a") as file:
        file.write("u1,,,Radio,,1\n")
    arguments = ["prepare", "kkbox", str(kkbox), "--out", str(tmp_path / "data")]
    assert run(arguments) == 0
    captured = capsys.readouterr()
    assert "malformed rows: 1" in captured.out
    assert (captured.out + captured.err).count("train.csv, row 202, column 'song_id': the value is empty") == 1
    assert run([*arguments, "--strict"]) == 1
    assert "row 202, column 'song_id': the value is empty" in capsys.readouterr().err


def test_the_gap_of_the_kind_can_be_overruled(kkbox, tmp_path, capsys):
    arguments = ["prepare", "kkbox", str(kkbox), "--relations", "none", "--json"]
    assert run([*arguments, "--out", str(tmp_path / "a")]) == 0
    assert json.loads(capsys.readouterr().out)["sessions"] == 9
    assert run([*arguments, "--out", str(tmp_path / "b"), "--gap", "9", "--test-share", "0"]) == 0
    options = json.loads((tmp_path / "b" / "dataset.json").read_text())
    assert '"gap_seconds": 9' in json.dumps(options)
