# docs/nixos-options.md.
{ lib }:
let
  settings = import ./settings.nix {
    inherit lib;
    freeformType = lib.types.anything;
  };
  options = import ./options.nix {
    inherit lib settings;
    defaultPackage = { };
  };
  isOption = it: (it._type or "") == "option";
  nix =
    value:
    if value == { } then
      "{ }"
    else if value == [ ] then
      "[ ]"
    else if builtins.isAttrs value then
      "{ ${lib.concatStrings (lib.mapAttrsToList (name: it: "${name} = ${nix it}; ") value)}}"
    else if builtins.isList value then
      "[ ${lib.concatMapStrings (it: "${nix it} ") value}]"
    else
      builtins.toJSON value;
  shown = value: "`${nix value}`";
  entry =
    path: it:
    let
      default =
        if it ? defaultText then
          it.defaultText.text
        else if it ? default then
          shown it.default
        else
          "none";
      example = lib.optionalString (it ? example) " · Example: ${shown it.example}";
    in
    "### `${path}`\n\n${builtins.concatStringsSep "\n" (lib.filter (line: line != "") (lib.splitString "\n" it.description))}\n\nType: ${kind path it} · Default: ${default}${example}\n";
  kind = path: it: if path == "settings" then "configuration" else it.type.description;
  entries =
    prefix: tree:
    lib.concatLists (
      lib.mapAttrsToList (
        name: it:
        let
          path = prefix + name;
        in
        if isOption it then [ (entry path it) ] else entries "${path}." it
      ) tree
    );
  row =
    it:
    "| `${it.name}` | ${builtins.replaceStrings [ "|" ] [ "\\|" ] it.type} | ${
      if it.default == null then "not set" else shown it.default
    } |";
in
''
  <!-- Written from nixos-module/; `UPDATE=1 tests/nix/run` writes it again. -->

  # Options of the NixOS module

  [docs/nixos.md](nixos.md) tells how they are used.

  ## `services.sconce`

  ### `enable`

  Whether to enable sconce, an OpenAI-compatible API for language models.

  Type: boolean · Default: `false`

  ### `instances`

  More daemons by their names, each with the options below and an `enable` of its own, which is `true`. The unit of one is
  `sconce-<name>`, and so are its user and its directories; it does not need `services.sconce.enable`.

  Type: attribute set of these options · Default: `{ }`

  ${builtins.concatStringsSep "\n" (entries "" options)}
  ## `services.sconce.settings`

  Each is `null` unless set, and then not written; the default is the daemon's. [The reference](configuration.md) says what
  they do. The settings of a model take from the top level what is not set.

  | Option | Type | Default |
  |---|---|---|
  ${lib.concatMapStringsSep "\n" row settings.rows}
''
