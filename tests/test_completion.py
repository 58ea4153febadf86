"""What a shell completes."""

from __future__ import annotations

import subprocess

import pytest

from pyg_gunet import cli


@pytest.mark.parametrize(
    "words, found", [("fi", "fit"), ("fit --model.pool", "--model.pool_ratios")]
)
def test_bash_completes_commands_and_options_of_a_run(words, found, capsys):
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    count = len(words.split())
    script += f"COMP_WORDS=(pyg-gunet {words}); COMP_CWORD={count}; _shtab_pyg_gunet\n"
    script += 'echo "${COMPREPLY[@]}"\n'
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [found]


@pytest.mark.parametrize("shell", cli.SHELLS)
def test_a_script_names_every_command(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in cli.COMMANDS)


def test_shells_and_options_that_there_are_not(capsys):
    assert cli.main(["completion", "bash", "--stray"]) == 2
    assert "unrecognized argument '--stray'" in capsys.readouterr().err
    assert cli.main(["completion"]) == 2
    assert "'shell' must be one of bash, zsh, tcsh" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["completion", "fish"])
