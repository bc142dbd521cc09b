# The NixOS module with each configuration of cases.nix. What it evaluates to is compared as this is evaluated; built, it
# has checked each good configuration with the package. `mistakes` and `refused` are for tests/nix/run, which alone can
# read their messages.
{
  lib,
  pkgs,
  module,
}:
let
  evaluate =
    config:
    import ./nixpkgs/nixos.nix {
      inherit lib pkgs;
      modules = [
        module
        config
      ];
    };
  settings = import ../../nixos-module/settings.nix {
    inherit lib;
    freeformType = lib.types.anything;
  };
  cases = import ./cases.nix { inherit lib settings evaluate; };
  having = name: lib.filterAttrs (_: case: case ? ${name}) cases;

  wrong =
    name: case:
    let
      machine = evaluate case.config;
      said = lib.attrNames (lib.filterAttrs (_: holds: !holds) (case.expect machine));
      told = builtins.any (text: builtins.length (lib.splitString case.message text) > 1) machine.failed;
    in
    map (what: "${name}: ${what}") (
      if case ? expect then
        machine.failed ++ said
      else if case ? message && !told then
        [ "its messages are ${builtins.toJSON machine.failed}, not '${case.message}'" ]
      else if case ? mistake && (builtins.tryEval (builtins.deepSeq machine.units true)).success then
        [ "it was taken" ]
      else
        [ ]
    );
  failures = lib.concatLists (lib.mapAttrsToList wrong cases);
  files =
    case:
    lib.mapAttrsToList (_: it: it.source) (evaluate case.config).config.environment.etc;
in
assert lib.assertMsg (failures == [ ]) (builtins.concatStringsSep "\n" failures);
pkgs.runCommand "sconce-module" {
  configurations = lib.concatLists (lib.mapAttrsToList (_: files) (having "expect"));
  passthru = {
    inherit evaluate;
    names = lib.attrNames cases;
    mistakes = lib.mapAttrs (_: case: {
      inherit (case) mistake;
      outcome = builtins.deepSeq (evaluate case.config).units "it was taken";
    }) (having "mistake");
    refused = lib.mapAttrs (_: case: {
      inherit (case) refused;
      outcome = builtins.head (files case);
    }) (having "refused");
    page = import ../../nixos-module/page.nix { inherit lib; };
  };
} "touch $out"
