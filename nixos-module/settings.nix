# The daemon's configuration as options, from its own reference: `sconce print-config-reference --format json`.
{ lib, freeformType }:
let
  inherit (lib) types;
  schema = lib.importJSON ./reference.json;

  named = of: if builtins.isList of then of else [ of ];
  whole =
    of:
    let
      highest = of.maximum or (if of.format or "" == "uint32" then 4294967295 else null);
      lowest = of.minimum or 0;
    in
    if highest != null then
      types.ints.between lowest highest
    else if lowest == 0 then
      types.ints.unsigned
    else
      types.ints.positive;

  one =
    of: name:
    {
      string = types.str;
      boolean = types.bool;
      # The bounds of fractions are left to `sconce check-config`.
      number = types.number;
      integer = whole of;
      array = types.listOf (typeOf of.items);
    }
    .${name};

  typeOf =
    of:
    if of ? oneOf then
      types.enum (map (it: it.const) of.oneOf)
    else if of ? enum then
      types.enum (builtins.filter (it: it != null) of.enum)
    else
      let
        all = map (one of) (builtins.filter (name: name != "null") (named of.type));
      in
      if builtins.length all == 1 then builtins.head all else types.oneOf all;

  isTable = of: (of.type or null) == "object";
  isMap = of: isTable of && builtins.isAttrs (of.additionalProperties or false);
  sentence = builtins.replaceStrings [ "\n" ] [ " " ];

  # Nothing is written that was not said: a model's table takes from the top level what it does not say itself.
  option =
    of:
    if isMap of then
      lib.mkOption {
        type = types.attrsOf (types.submodule (table of.additionalProperties));
        default = { };
        description = sentence of.description;
      }
    else if isTable of then
      (table of).options
    else
      lib.mkOption {
        type = types.nullOr (typeOf of);
        default = null;
        defaultText = lib.literalMD (
          if of.default or null == null then "not set" else "`${builtins.toJSON of.default}`, the daemon's own"
        );
        description = sentence of.description;
      };

  table = of: {
    # A key that the package knows and this list does not; `sconce check-config` has the last word.
    inherit freeformType;
    options = builtins.mapAttrs (_: option) of.properties;
  };

  # What was said, without what was not.
  written =
    of: value:
    if !builtins.isAttrs value then
      value
    else if isMap of then
      builtins.mapAttrs (_: written of.additionalProperties) value
    else
      lib.filterAttrs (name: it: it != null && !(it == { } && isTable (of.properties.${name} or { }))) (
        builtins.mapAttrs (name: written (of.properties.${name} or { })) value
      );

  # Paths of what would lie open in the Nix store: secrets, and files of secrets that are there.
  secrets =
    of: path: value:
    if
      of.writeOnly or false
      || (of.items.writeOnly or false && value != [ ])
      || (path != [ ] && isSecretFile (builtins.elemAt path (builtins.length path - 1)) && inStore value)
    then
      [ (builtins.concatStringsSep "." path) ]
    else if builtins.isAttrs value then
      lib.concatMap (
        name:
        secrets (if isMap of then of.additionalProperties else of.properties.${name} or { }) (
          path ++ [ name ]
        ) value.${name}
      ) (builtins.attrNames value)
    else
      [ ];

  isSecretFile = name: builtins.match ".*_file|tls_key" name != null;
  inStore = value: builtins.isPath value || lib.hasPrefix builtins.storeDir (toString value);

  # One row a key, for the page of options.
  rows =
    prefix: of:
    lib.concatMap (
      name:
      let
        it = of.properties.${name};
        path = "${prefix}.${name}";
      in
      if isMap it then
        rows "${path}.<name>" it.additionalProperties
      else if isTable it then
        rows path it
      else
        [
          {
            name = path;
            type = (typeOf it).description;
            default = it.default or null;
          }
        ]
    ) (builtins.attrNames of.properties);
in
{
  inherit schema inStore;
  backends = map (it: it.const) schema.properties.backend.oneOf;
  module = table schema;
  written = written schema;
  secrets = secrets schema [ ];
  rows = rows "settings" schema;
}
