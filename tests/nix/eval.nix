# The flake's module against the stand-in for nixpkgs, with a program that is built already; by its hash Nix knows whether
# it is another one.
{
  root,
  binary,
  hash,
}:
let
  system = builtins.currentSystem;
  lib = import ./nixpkgs/lib;
  pkgs = import ./nixpkgs/pkgs.nix { inherit lib system; };
  nixpkgs = {
    inherit lib;
    legacyPackages.${system} = pkgs;
  };
  self = (import (root + "/flake.nix")).outputs { inherit self nixpkgs; };
  check = import ./check.nix {
    inherit lib pkgs;
    module = {
      imports = [ self.nixosModules.default ];
      services.sconce.package = lib.mkForce (
        pkgs.runCommand "sconce" {
          inherit hash;
          meta.mainProgram = "sconce";
        } ''
          install -D ${binary} $out/bin/sconce
        ''
      );
    };
  };
  boot = lib.mapAttrs (
    _: settings:
    check.evaluate {
      services.sconce = {
        enable = true;
        apiKeyFiles = [
          "/etc/secrets/one"
          "/etc/secrets/two"
        ];
        inherit settings;
      };
    }
  ) (import ./boot.nix);
  file = machine: machine.config.environment.etc."sconce/sconce.toml".source;
in
{
  inherit check;
  # What tests/nix/boot gets.
  machine = pkgs.runCommand "sconce-machine" {
    unit = boot.before.units."sconce.service";
    passAsFile = [ "unit" ];
    before = file boot.before;
    after = file boot.after;
    same = boot.before.units == boot.after.units;
  } ''
    test "$same" = 1
    mkdir $out
    cp $unitPath $out/sconce.service
    cp $before $out/before.toml
    cp $after $out/after.toml
  '';
}
