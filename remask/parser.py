"""The parser of a verb's options, which `remask.signatures` reads from the signature of its function.

jsonargparse reads recipes, lets the command line overrule them, and finds a class by its name; values are read by
`remask.options`.
"""

import inspect
import re
from argparse import SUPPRESS, ArgumentError, HelpFormatter
from collections.abc import Callable, Iterator
from dataclasses import MISSING, replace
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from jsonargparse import ActionYesNo, ArgumentParser, Namespace, set_parsing_settings

from remask.errors import RemaskError, WrongUse, nearest, unknown
from remask.options import accepted, holds_text, is_union, read_value
from remask.presets import preset_path
from remask.signatures import Option, flattened, has_subclasses, options_of, parameters, section_of


class Parser:
    """The parser of `remask VERB`."""

    def __init__(self, verb: str, description: str, function: Callable[..., Any], positional: tuple[str, ...]) -> None:
        self.verb, self.function, self.positional = verb, function, positional
        self.options = {option.name: option for option in options_of(function)}
        set_parsing_settings(
            docstring_parse_attribute_docstrings=True,
            import_path_denylist=["*"],  # a recipe runs no code but ours
            import_path_allowlist=["remask"],
            subclasses_enabled=[option.hint for option in self.options.values() if option.by_name],
        )
        self.parser = ArgumentParser(
            prog=f"remask {verb}",
            usage=" ".join([f"remask {verb}", *map(self._place, positional), "[options]"]),
            description=description,
            formatter_class=HelpFormatter,
            print_config=None,
            allow_abbrev=False,
            exit_on_error=False,
        )
        self.parser.add_argument("--config", action="config", help="A YAML recipe; options after it overrule it.")
        containers: dict[str, Any] = {"": self.parser}
        for option in self.options.values():
            section = option.name.rpartition(".")[0]
            if section not in containers:
                containers[section] = self.parser.add_argument_group(section, option.section_help)
            _add(containers[section], option, option.name in positional)

    def _place(self, name: str) -> str:
        """What stands for a positional in the usage."""
        return f"{name.upper()}..." if get_origin(self.options[name].hint) is list else name.upper()

    def call(self, arguments: list[str]) -> Any:
        """Calls the function with the options that the command line gives; raises what `read` and the function do."""
        return self.function(**self.read(arguments))

    def read(self, arguments: list[str]) -> dict[str, Any]:
        """The arguments of the function: those that the command line gives, and the dataclasses built from it.

        Raises:
            WrongUse: an option is unknown, has a value of another type, or is missing.
        """
        arguments = list(self._with_preset(arguments))
        for recipe in _recipes(arguments):
            _check_recipe(recipe, "preset" in self.options)
        try:
            arguments = list(self._spelled_out(arguments))
            parsed = self.parser.parse_args(arguments)
            for option in self.options.values():
                if option.by_name and option.name in parsed:
                    _keep_only_written(option.name, arguments, parsed[option.name])
            given = self.parser.instantiate(parsed).as_dict()
        except ArgumentError as error:
            raise WrongUse(self._explain(str(error))) from error
        except RecursionError:
            raise WrongUse("config is nested too deeply, or refers to itself") from None
        return _arguments(self.function, given)

    def _with_preset(self, arguments: list[str]) -> Iterator[str]:
        """The command line with the recipe of a preset in front, so that all else overrules it."""
        if "preset" not in self.options:
            yield from arguments
            return
        try:
            for name in list(_values("preset", arguments))[-1:]:
                yield f"--config={preset_path(name)}"
        except RemaskError as error:
            raise WrongUse(str(error)) from None
        yield from arguments

    def _spelled_out(self, arguments: list[str]) -> Iterator[str]:
        """The command line as jsonargparse reads the options of classes that are chosen by name: with underscores, and
        with a value behind each flag, such as --family.pairs."""
        chosen = [option for option in self.options.values() if option.by_name]
        kinds = [(option.name, kind) for option in chosen for kind in _classes(option.hint).values()]
        flags = {f"{name}.{field}" for name, kind in kinds for field, hint, _ in parameters(kind) if hint is bool}
        starts = tuple(f"--{no}{option.name}." for option in chosen for no in ("", "no-", "no_"))
        for argument, following in zip(arguments, [*arguments[1:], "--"], strict=False):
            if not (starts and argument.startswith(starts)):
                yield argument
                continue
            name, equals, value = argument[2:].partition("=")
            name = name.replace("-", "_")
            if name in flags and not equals and following.startswith("--"):
                yield f"--{name}=true"
            elif name.removeprefix("no_") in flags and name.startswith("no_"):
                if equals:
                    raise WrongUse(f"--no-{name.removeprefix('no_')} takes no value")
                yield f"--{name.removeprefix('no_')}=false"
            else:
                yield f"--{name}{equals}{value}"

    def _explain(self, message: str) -> str:
        """Says in our words what jsonargparse says about wrong use."""
        if match := re.match(r"unrecognized arguments: (\S+)", message):
            name = match[1].partition("=")[0]
            return self._unknown(name) if name.startswith("-") else f"{match[1]!r} is one argument too many"
        if match := re.search(r"Option '(.+)' is not accepted", message):
            name = match[1].rpartition(".")[2]
            others = [option.name for option in self.options.values() if self._has(option, name)]
            if others:
                return f"--{others[0]}.{name} is an option of another {others[0]} than the one that is chosen"
            return self._unknown(match[1])
        if match := re.match(r"the following arguments are required: (.+)", message):
            names = [name.upper() if name in self.positional else f"--{name}" for name in match[1].split(", ")]
            return f"{' and '.join(names)} must be given"
        if match := re.match(r"argument (--[^/]+)\S*: expected one argument", message):
            return f"{match[1]} needs a value; one that begins with a dash is written {match[1]}=VALUE"
        if match := re.match(r"argument (--[^/]+)\S*: ignored explicit argument", message):
            return f"{match[1]} takes no value; its opposite is --no-{match[1][2:]}"
        if match := re.match(r'Parser key "config": File does not exist: (.+)', message):
            return f"config is {match[1]}, which does not exist"
        if (match := re.match(r'Parser key "([^"]+)"', message)) and match[1] in self.options:
            option = self.options[match[1]]
            message = (_explain_class(option, message) if option.by_name else None) or message
        return " ".join(message.split())

    def _has(self, option: Option, field: str) -> bool:
        """Whether a class that `option` can name has an option of that name."""
        return option.by_name and any(
            field == one for kind in _classes(option.hint).values() for one, _, _ in parameters(kind)
        )

    def _unknown(self, name: str) -> str:
        """A message for an option that does not exist."""
        known = {"config"}
        for option in self.options.values():
            known |= {option.name, f"no-{option.name}"} if option.flag else {option.name}
            for kind in _classes(option.hint).values() if option.by_name else ():
                fields = [(f"{option.name}.{field}", hint) for field, hint, _ in parameters(kind)]
                known |= {field for field, _ in fields} | {f"no-{field}" for field, hint in fields if hint is bool}
        inner = {one.rpartition(".")[2]: one for one in sorted(known, reverse=True)}  # without the section
        bare = name.lstrip("-").replace("-", "_")
        close = nearest(bare, known) or inner.get(nearest(bare.rpartition(".")[2], inner) or "")
        hint = f" Did you mean --{close}?" if close else ""
        return f"unknown option {name}.{hint} `remask {self.verb} --help` lists the options"


def _recipes(arguments: list[str]) -> Iterator[str]:
    """The values of --config."""
    return _values("config", arguments)


def _values(name: str, arguments: list[str]) -> Iterator[str]:
    """The values that a command line gives to an option."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before == f"--{name}":
            yield argument
        elif argument.startswith(f"--{name}="):
            yield argument.removeprefix(f"--{name}=")


def _keep_only_written(name: str, arguments: list[str], chosen: Any) -> None:
    """Leaves of the options of a class that is chosen by name those that are written out, on the command line or in a
    recipe for that class. jsonargparse fills in the others, and keeps them, and those of a recipe, when another class
    is chosen afterwards, whose defaults may differ."""
    import yaml

    options = (chosen or {}).get("init_args") or Namespace()
    kind = chosen["class_path"].rpartition(".")[2] if options else ""
    found = {argument[2:].partition("=")[0] for argument in arguments if argument.startswith("--")}
    whole = [yaml.safe_load(value) for value in _values(name, arguments)]
    for recipe in _recipes(arguments):
        content = yaml.safe_load(Path(recipe).read_text(encoding="utf-8-sig"))
        found |= set(map(str, content))
        whole.append(content.get(name))
    for value in whole:
        if isinstance(value, dict) and str(value.get("class_path", kind)).rpartition(".")[2] == kind:
            inner = value.get("init_args", value)
            found |= {f"{name}.{one}" for one in inner or {}}
    written = {one.removeprefix(f"{name}.").removeprefix("init_args.") for one in found if one.startswith(f"{name}.")}
    for one in [one for one in vars(options) if one not in written]:
        del options[one]


def _check_recipe(path: str, knows_presets: bool) -> None:
    """WrongUse, naming the file, for a recipe that holds no options, or names another recipe or a preset."""
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise WrongUse(f"config is {path!r}, which does not exist") from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).replace('in "<unicode string>", ', "in ").split())
        raise WrongUse(f"config is {path!r}, which is no recipe in YAML: {reason[:200]}") from None
    if not isinstance(content, dict):
        raise WrongUse(f"config is {path!r}, which is no recipe in YAML: it must hold options as NAME: VALUE")
    if knows_presets and "preset" in content:
        raise WrongUse(f"config is {path!r}, which names a preset; give --preset on the command line")
    if "config" in content:
        raise WrongUse(f"config is {path!r}, which names another recipe; give each on the command line, --config twice")


def _explain_class(option: Option, message: str) -> str | None:
    """What is wrong with an option whose value is an object of a class chosen by name, such as a family."""
    match = re.search(r"class_path '([^']+)'|(?:import path string:|Got value:) *(\S*)", message)
    if match is None:
        return None
    path, known = match[1] or match[2], _classes(option.hint)
    kind = known.get(path.rpartition(".")[2])
    if kind is None or "not allowed" in message:
        return str(unknown(option.name, path, known))
    if inner := re.search(r'Parser key "(\w+)":\s*Expected .*?Got value: (.*)', message, re.DOTALL):
        hints = {name: hint for name, hint, _ in parameters(kind)}
        return f"{option.name}.{inner[1]} is {inner[2]!r}; it must be {accepted(hints[inner[1]])}"
    return None


def _add(container: Any, option: Option, positional: bool) -> None:
    """Adds an option to a parser or to a group of it. One that is not given leaves no value behind."""
    name = option.name.rstrip("_")  # `from_`, since Python keeps `from` for itself
    shown = "" if option.default in (None, MISSING, "") or option.by_name else f" (default: {_show(option.default)})"
    keywords: dict[str, Any] = {"help": (option.help + shown).replace("%", "%%").strip(), "default": SUPPRESS}
    if positional and get_origin(option.hint) is list:  # one or more values, each by its place
        one = partial(_read, replace(option, hint=get_args(option.hint)[0]))
        container.add_argument(name, type=one, nargs="+", help=keywords["help"])
        return
    if positional:
        container.add_argument(name, type=partial(_read, option), help=keywords["help"])
        return
    names = dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"])
    keywords |= {"dest": option.name, "required": option.default is MISSING}
    if option.by_name:
        kind = type(option.default)
        keywords |= {"type": option.hint, "default": {"class_path": f"{kind.__module__}.{kind.__qualname__}"}}
    elif option.flag:
        keywords["action"] = ActionYesNo(no_prefix="no-")
    else:
        keywords |= {"type": partial(_read, option), "metavar": _metavar(option.hint)}
    container.add_argument(*names, **keywords)


def _read(option: Option, value: Any) -> Any:
    """The value of an option, from the command line or a recipe."""
    try:
        return read_value(option.hint, value)
    except ValueError:
        quotes = "; in YAML, text like this stands in quotes" if holds_text(option.hint) else ""
        raise WrongUse(f"{option.name} is {value!r}; it must be {accepted(option.hint)}{quotes}") from None


def _show(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _metavar(hint: Any) -> str:
    """What stands for a value in the help: {auto,on,off}, N, X, PATH, TEXT or LIST."""
    kind = next((kind for kind in get_args(hint) if kind is not NoneType), hint) if is_union(hint) else hint
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    return {int: "N", float: "X", Path: "PATH", str: "TEXT", Any: "TEXT"}.get(kind, "LIST")


def _arguments(kind: Callable[..., Any], given: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The arguments of a function or a dataclass, from the options that were given, nested by section.

    WrongUse, naming the option behind `prefix`, for null and for a value in place of a section, which only YAML gives.
    """
    arguments: dict[str, Any] = {}
    for name, hint, default in parameters(kind):
        section = section_of(hint)
        if flattened(kind, hint, default):
            arguments[name] = hint(**_arguments(hint, given))
        elif name in given and given[name] is None and NoneType in get_args(hint):
            arguments[name] = None
        elif section is not None and name in given:
            if not isinstance(given[name], dict):
                first = next(parameters(section))[0]
                raise WrongUse(f"{prefix}{name} is {given[name]!r}; it holds options, such as {prefix}{name}.{first}")
            changes = _arguments(section, given[name], f"{prefix}{name}.")
            arguments[name] = section(**changes) if default in (None, MISSING) else replace(default, **changes)
        elif name in given and given[name] is None and hint is not Any:
            what = " or ".join(sorted(_classes(hint))) if has_subclasses(hint) else accepted(hint)
            raise WrongUse(f"{prefix}{name} is null; it must be {what}")
        elif name in given:
            arguments[name] = given[name]
    return arguments


def _classes(base: type) -> dict[str, type]:
    """The subclasses that can be chosen, by name: all that are not abstract."""
    found: dict[str, type] = {}
    for kind in base.__subclasses__():
        found |= ({} if inspect.isabstract(kind) else {kind.__name__: kind}) | _classes(kind)
    return found
