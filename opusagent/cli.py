"""The verbs of the program. Each is a few lines over the module that does the work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from opusagent import arguments, sessions_cli
from opusagent.errors import ConfigError, OpusAgentError
from opusagent.flags import with_setting_flags
from opusagent.running import EXIT_CHECK_FAILED, complain, ended, run

__all__ = ["app", "main"]

app = typer.Typer(
    name="run_bridge.py",
    help="OpusAgent: Amazon Nova Sonic on the telephone, through AudioCodes VoiceAI Connect.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)

app.add_typer(sessions_cli.app, name="sessions")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with settings; config/bridge.toml if it exists."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")]


def main(given: Sequence[str]) -> int:
    """Run the command line; returns the exit code. Without a verb the bridge is served."""
    arguments = list(given)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments.insert(0, "serve")
    verb = arguments[0]
    return ended(verb, lambda: _answer(verb, arguments))


def _answer(verb: str, arguments: list[str]) -> int:
    try:
        code = app(args=arguments, standalone_mode=False)
    except (OpusAgentError, ModuleNotFoundError):
        raise
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        return complain("aborted")
    except Exception as error:  # typer's own, of wrong usage, have no public type
        usage = getattr(error, "format_message", None)
        if usage is None:
            raise
        known = {
            command.callback.__name__ for command in app.registered_commands if command.callback
        } | {group.name for group in app.registered_groups}
        helped = f"{verb} --help" if verb in known else "--help"
        return complain(f"{usage()} (see run_bridge.py {helped})")
    return code if isinstance(code, int) else 0


@app.command(epilog="Example: BRIDGE_TOKEN=secret python run_bridge.py serve --bridge-port 8765")
@with_setting_flags
def serve(config: ConfigOption = None, **flags: str | bool) -> int:
    """Run the bridge: AudioCodes connects to it, and it connects to Nova Sonic."""
    from opusagent.config import load
    from opusagent.serving import serve as served

    return run(served(load(flags, file=config)))


@app.command(epilog="Example: python run_bridge.py check --config config/bridge.toml")
@with_setting_flags
def check(config: ConfigOption = None, **flags: str | bool) -> int:
    """Look whether a call could be taken: configuration, agents, store, credentials, Bedrock. One line each."""
    from opusagent.config import load
    from opusagent.preflight import check as checked

    lines = run(checked(load(flags, file=config)))
    console = Console(highlight=False)
    for line in lines:
        mark = "[green]ok[/]  " if line.ok else "[red]FAIL[/]"
        console.print(f"{mark} {line.what}: {line.found}", soft_wrap=True)
    return 0 if all(line.ok for line in lines) else EXIT_CHECK_FAILED


@app.command(epilog="Example: python run_bridge.py demo --scenario basic --output ./demo/basic")
def demo(
    scenario: Annotated[str, typer.Option(help="Which conversation; --list names them.")] = "basic",
    output: Annotated[
        Path | None,
        typer.Option(
            help="Where the files go; without it demo/SCENARIO/.",
            callback=arguments.writable_folder,
        ),
    ] = None,
    as_json: JsonOption = False,
    list_scenarios: Annotated[bool, typer.Option("--list", help="Name the scenarios.")] = False,
) -> int:
    """A whole phone call on this machine: simulated caller, bridge, local Nova Sonic, real sockets."""
    from opusagent.demo.report import show, write_files
    from opusagent.demo.run import run_demo
    from opusagent.simulators.scenario import find_scenario, scenario_names

    if list_scenarios:
        width = max(map(len, scenario_names()))
        for name in scenario_names():
            typer.echo(f"{name:{width}}  {find_scenario(name).description}")
        return 0
    console = Console(highlight=False)
    find_scenario(scenario)
    folder = arguments.writable_folder(output or Path("demo") / Path(scenario).stem)
    result = run(run_demo(scenario, say=lambda line: console.print(f"[dim]{escape(line)}[/]")))
    files = write_files(result, folder)
    show(result, files, console)
    if as_json:
        typer.echo(json.dumps(result.as_json()))
    return 0 if result.ok else EXIT_CHECK_FAILED


@app.command(
    epilog="Example: python run_bridge.py call ws://localhost:8765 --dtmf 42 --save-audio heard.wav"
)
def call(
    url: Annotated[
        str, typer.Argument(help="ws://HOST:PORT or wss://HOST", callback=arguments.websocket_url)
    ],
    audio: Annotated[list[Path] | None, typer.Option(help="A WAV file a turn.")] = None,
    token: Annotated[str, typer.Option(help="Of the Authorization header.")] = "",
    dtmf: Annotated[
        str, typer.Option(help="Keys to press after the last turn.", callback=arguments.keys)
    ] = "",
    save_audio: Annotated[
        Path | None,
        typer.Option(help="Stereo WAV: caller left, bot right.", callback=arguments.writable_file),
    ] = None,
    media_format: Annotated[
        list[str] | None,
        typer.Option(help="Offered; may be repeated.", callback=arguments.formats),
    ] = None,
    interrupt: Annotated[bool, typer.Option(help="Speak over the last answer.")] = False,
    cut_socket: Annotated[bool, typer.Option(help="Lose the socket once, and resume.")] = False,
    numbers: Annotated[int, typer.Option(help="Numbered frames instead of words.", min=0)] = 0,
    frame_ms: Annotated[
        int, typer.Option(help="Length of a numbered frame.", min=5, max=1000)
    ] = 20,
    expect_numbers: Annotated[
        int, typer.Option(help="Numbered frames that the bot must send, from 0 on.", min=0)
    ] = 0,
    fast: Annotated[bool, typer.Option(help="Numbered frames as fast as they go.")] = False,
    chunk_ms: Annotated[
        int, typer.Option(help="Length of a chunk of caller audio.", min=10, max=2000)
    ] = 160,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="Certificates to trust for wss://.", callback=arguments.certificates),
    ] = None,
    bot_name: Annotated[str, typer.Option(help="Picks the agent.")] = "voice-bot",
    as_json: JsonOption = False,
) -> int:
    """A simulated AudioCodes VoiceAI Connect calls any bot of the Bot API."""
    from opusagent.simulators.caller_script import LIVE_HUB_FORMATS
    from opusagent.simulators.calling import CallOptions, run_call, summary
    from opusagent.simulators.verdict import Limits, judge

    if numbers and (audio or dtmf or interrupt or cut_socket):
        raise ConfigError(
            "--numbers: goes instead of --audio, --dtmf, --interrupt and --cut-socket, not with them"
        )
    if fast and not numbers:
        raise ConfigError("--fast: only numbered frames can go faster than speech: add --numbers")
    options = CallOptions(
        url=url,
        token=token,
        ca_file=ca_file,
        audio=audio or (),
        interrupt=interrupt,
        cut_socket=cut_socket,
        dtmf=dtmf,
        numbers=numbers,
        listen_for_numbers=expect_numbers > 0,
        fast=fast,
        frame_ms=frame_ms,
        save_audio=save_audio,
        media_formats=media_format or LIVE_HUB_FORMATS,
        chunk_ms=chunk_ms,
        bot_name=bot_name,
    )
    console = Console(highlight=False)
    record = run(
        run_call(
            options,
            lambda at_s, what, words: console.print(
                f"[dim]{at_s:6.2f} s[/] {what} {escape(words)}"
            ),
        )
    )
    verdict = judge(record, Limits(numbers=range(expect_numbers) if expect_numbers else None))
    for finding in verdict.findings:
        console.print(
            f"{'[red]wrong[/]' if finding.serious else '[yellow]note[/]'}  {escape(str(finding))}"
        )
    console.print(
        "[green]the bot keeps the protocol[/]"
        if verdict.ok
        else "[red]the bot does not keep the protocol[/]"
    )
    if as_json:
        typer.echo(json.dumps(summary(record, verdict)))
    return 0 if verdict.ok else EXIT_CHECK_FAILED


@app.command(
    epilog="Example: python run_bridge.py nova --port 8443 --ca-file nova-ca.pem --fault reset:stream=1:after=5"
)
def nova(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "localhost",
    port: Annotated[
        int, typer.Option(help="Its port; 0 takes any free one.", min=0, max=65535)
    ] = 0,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="Where its CA certificate is written.", callback=arguments.writable_file),
    ] = None,
    limit_seconds: Annotated[
        float, typer.Option(help="Life of a stream.", callback=arguments.more_than_zero)
    ] = 480.0,
    scale: Annotated[
        float,
        typer.Option(
            help="How much faster than the wall its limits run: life of a stream, time without audio.",
            callback=arguments.more_than_zero,
        ),
    ] = 1.0,
    quota: Annotated[
        int | None, typer.Option(help="Streams at once; one more is throttled.", min=1)
    ] = None,
    profile: Annotated[str, typer.Option(help="v1, nova-2 or nova-2.5.")] = "nova-2",
    scenario: Annotated[str, typer.Option(help="A shipped scenario, or a .toml file.")] = "basic",
    record: Annotated[
        Path | None,
        typer.Option(help="Folder for all that was received.", callback=arguments.writable_folder),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME[:OPTION=VALUE...]; may be repeated. `--fault help` lists them with their options."
        ),
    ] = None,
    numbers: Annotated[
        int,
        typer.Option(help="Answer with so many numbered frames, and count the caller's.", min=0),
    ] = 0,
) -> int:
    """The local Nova Sonic service: TLS, HTTP/2 and event stream, as the AWS SDK expects them."""
    from opusagent.simulators.faults import fault_help
    from opusagent.simulators.nova import NovaOptions, run_nova

    if "help" in (fault or ()):
        typer.echo(fault_help())
        return 0
    options = NovaOptions(
        host=host,
        port=port,
        ca_file=ca_file,
        limit_s=limit_seconds,
        scale=scale,
        quota=quota,
        profile=profile,
        scenario=scenario,
        record=record,
        faults=fault or [],
        numbers=numbers,
    )
    return run(run_nova(options))


@app.command(epilog="Example: python run_bridge.py bench --calls 1,25 --seconds 20 --frame-ms 20")
def bench(
    calls: Annotated[str, typer.Option(help="Numbers of calls at once, with commas.")] = "1,10,25",
    seconds: Annotated[
        float,
        typer.Option(help="How long each runs.", min=1, callback=arguments.more_than_zero),
    ] = 20.0,
    frame_ms: Annotated[int, typer.Option(help="20 or 160.")] = 20,
    soak: Annotated[
        bool,
        typer.Option(
            "--soak",
            help="Instead: 200 calls of 2 s in a row, then 50 at once; exit 1 if anything is left behind.",
        ),
    ] = False,
    switches: Annotated[
        bool,
        typer.Option(
            "--switches",
            help="Instead: change streams in every situation, counted frame by frame; exit 1 if a promise is broken.",
        ),
    ] = False,
    switches_per_case: Annotated[
        int, typer.Option(help="How many switches each situation gets at least.", min=1)
    ] = 200,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Instead: lose lines and kill processes, with a real Valkey; exit 1 if a promise is broken.",
        ),
    ] = False,
    kills: Annotated[
        int, typer.Option(help="How many processes --resume kills at random moments.", min=1)
    ] = 200,
    tools: Annotated[
        bool,
        typer.Option(
            "--tools",
            help="Instead: tools that sleep, compute, fail, return too much or never; exit 1 if a limit is missed.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Calls per core, added latency both ways, memory per call: both ends in other processes."""
    from opusagent.bench import commands
    from opusagent.bench.report import host_watched

    console = Console(stderr=True, highlight=False)
    with host_watched(console):
        if switches:
            measured = commands.switches(switches_per_case, progress=console.print)
        elif resume:
            measured = commands.resume(kills, progress=console.print)
        elif soak:
            measured = commands.soak(progress=console.print)
        else:
            counts = arguments.call_counts(calls)
            if frame_ms not in (20, 160):
                raise ConfigError(f"--frame-ms: must be 20 or 160, not {frame_ms}")
            way = commands.tools if tools else commands.load
            measured = way(counts, seconds, frame_ms, progress=console.print)
        done = run(measured)
    if as_json:
        typer.echo(json.dumps(done.figures))
    return 0 if done.kept else EXIT_CHECK_FAILED
