import stat
from pathlib import Path

import pytest

from blipbench import doctor
from blipbench.doctor import Check


def test_a_working_machine_passes() -> None:
    assert doctor.exit_status(doctor.diagnose()) == 0


def test_every_part_of_the_machine_is_looked_at() -> None:
    names = [check.name for check in doctor.diagnose()]
    for name in (
        "Python",
        "packages",
        "tokenizer",
        "CPU",
        "memory",
        "disk, here",
        "disk, downloads",
        "Java",
        "SPICE models",
    ):
        assert name in names
    assert any(name.startswith("GPU") for name in names)


def test_a_failure_decides_the_exit_status() -> None:
    assert doctor.exit_status([Check("a", "ok", ""), Check("b", "fail", "")]) == 1


def test_a_warning_does_not() -> None:
    assert doctor.exit_status([Check("a", "ok", ""), Check("b", "warn", "")]) == 0


def test_the_report_puts_what_to_do_below_the_finding() -> None:
    lines = doctor.report_lines([Check("CPU", "ok", "2 cores"), Check("Java", "warn", "not found", "install it")])
    assert lines == ["ok    CPU   2 cores", "warn  Java  not found", "            -> install it"]


def test_a_missing_java_is_a_warning_with_a_remedy() -> None:
    check = doctor.check_java("no-such-java-here")
    assert (check.status, check.detail) == ("warn", "not found")
    assert "Java runtime" in check.fix


def test_javas_version_is_read_from_stderr(tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"17.0.1\"' >&2\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    assert doctor.check_java(str(java)) == Check("Java", "ok", 'openjdk version "17.0.1"')


def test_a_java_that_fails_is_a_warning(tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\nexit 1\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    assert doctor.check_java(str(java)).status == "warn"


def test_missing_spice_models_are_a_warning_with_the_command_that_gets_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "missing_spice_models", lambda: [tmp_path / "models.jar"])
    check = doctor.check_spice_models()
    assert (check.status, check.detail) == ("warn", f"models.jar is not in {tmp_path}")
    assert "python -m pycocoevalcap.spice.get_stanford_models" in check.fix
    monkeypatch.setattr(doctor, "missing_spice_models", list)
    assert doctor.check_spice_models().status == "ok"


def test_a_folder_that_does_not_exist_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    check = doctor.check_disk("disk", tmp_path / "not" / "yet")
    assert check.status in ("ok", "warn")
    assert check.detail.endswith(f"free for {tmp_path / 'not' / 'yet'}")


def test_a_package_below_its_range_fails_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: ["rich>=999", 'ruff>=999; extra == "dev"'])
    (check,) = doctor.check_packages()
    assert (check.name, check.status, check.fix) == ("rich", "fail", "pip install 'rich>=999'")


def test_a_missing_package_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: ["no-such-package-at-all>=1"])
    (check,) = doctor.check_packages()
    assert (check.name, check.status, check.detail) == ("no-such-package-at-all", "fail", "not installed")


def test_a_checkout_that_is_not_installed_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> list[str]:
        raise doctor.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.importlib.metadata, "requires", not_installed)
    (check,) = doctor.check_packages()
    assert (check.name, check.status) == ("packages", "warn")


def test_more_threads_than_cores_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.torch, "get_num_threads", lambda: doctor.available_cores() + 1)
    check = doctor.check_cpu()
    assert check.status == "warn"
    assert f"OMP_NUM_THREADS={doctor.available_cores()}" in check.fix
