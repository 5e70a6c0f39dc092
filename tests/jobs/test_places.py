"""Places: an address is a folder here or S3's, and nothing else; names are put together alike."""

import pickle
from pathlib import Path, PurePosixPath

import pytest

from jobs import config
from jobs.errors import Misconfigured
from jobs.places import S3Path, place


def test_an_address_names_a_folder_or_a_prefix() -> None:
    assert place("/a/b") == Path("/a/b")
    assert place("a") == Path("a")
    assert place("s3://bucket/a/b/") == S3Path("bucket", "a/b")
    assert place("s3://bucket") == S3Path("bucket", "")
    assert place(place("s3://bucket/a")) == place("s3://bucket/a")


@pytest.mark.parametrize(
    "address",
    [
        "gs://bucket/a",
        "s3:/bucket/a",
        "file:///a",
        "hdfs://h/a",
        "s3://",
        "s3://B/a",
        "s3://bucket/a%20b",
        "s3://b/../a",
    ],
)
def test_any_other_address_is_refused_and_never_a_folder_of_that_name(address: str) -> None:
    """`Path` folds `s3://` to `s3:/`, and a folder `s3:` would be filled."""
    with pytest.raises(Misconfigured, match="s3://bucket/prefix"):
        place(address)
    with pytest.raises(Misconfigured, match=r"lake\.root"):
        config.load({"TIDEGATE_ENV": "test", "TIDEGATE__LAKE__ROOT": address})


def test_settings_take_either_and_what_cannot_be_on_s3_says_so() -> None:
    lake = config.load({"TIDEGATE_ENV": "test", "TIDEGATE__LAKE__ROOT": "s3://bucket/team/lake"}).lake
    assert str(lake.results) == "s3://bucket/team/validations"
    assert isinstance(lake.runs, Path)
    assert lake.model_dump(mode="json")["root"] == "s3://bucket/team/lake"
    for key in ("LAKE__RUNS", "ENDPOINT__STATE", "FEATURES__ONLINE_PATH"):
        with pytest.raises(Misconfigured, match="must be a folder of this machine; found 's3://bucket/a'"):
            config.load({"TIDEGATE_ENV": "test", f"TIDEGATE__{key}": "s3://bucket/a"})


def test_names_are_put_together_as_those_of_a_path() -> None:
    for root in (place("s3://bucket/a"), place("/bucket/a")):
        path = root / "b=1" / "c.parquet"
        assert (path.name, path.stem, path.suffix, path.parent.name) == ("c.parquet", "c", ".parquet", "b=1")
        assert path.parts[-3:] == ("a", "b=1", "c.parquet")
        assert path.relative_to(root) == PurePosixPath("b=1/c.parquet")  # type: ignore[arg-type]
        assert path.with_name("d") == root.joinpath("b=1", "d")
        assert str(path) == f"{root}/b=1/c.parquet"
    assert pickle.loads(pickle.dumps(place("s3://bucket/a"))) == place("s3://bucket/a")
    with pytest.raises(ValueError, match="does not lie below"):
        S3Path("bucket", "a").relative_to(S3Path("other", ""))
