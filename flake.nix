{
  description = "A daemon that serves an OpenAI-compatible API from one machine, with reproducible answers";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      each = f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      revision = self.rev or self.dirtyRev or "";
      packagesFrom = pkgs: rec {
        sconce = pkgs.callPackage ./nix/package.nix { inherit revision; };
        sconce-proxy = pkgs.callPackage ./nix/package.nix {
          inherit revision;
          withCandle = false;
        };
        sconce-cuda = pkgs.callPackage ./nix/package.nix {
          inherit revision;
          withCuda = true;
          plain = sconce;
        };
      };
      # Who asks for the CUDA package takes CUDA's licence, and no other that is not free.
      withCuda =
        system:
        import nixpkgs {
          inherit system;
          config.allowUnfreePredicate =
            package:
            builtins.all (license: license.free or true || license.shortName or "" == "CUDA EULA") (
              lib.toList package.meta.license
            );
        };
      system = pkgs: pkgs.stdenv.hostPlatform.system;
    in
    {
      packages = each (
        pkgs:
        packagesFrom pkgs
        // {
          inherit (packagesFrom (withCuda (system pkgs))) sconce-cuda;
          default = self.packages.${system pkgs}.sconce;
        }
      );

      apps = each (pkgs: {
        default = {
          type = "app";
          program = lib.getExe self.packages.${system pkgs}.sconce;
          meta.description = "Serve the API";
        };
      });

      overlays.default = final: _previous: packagesFrom final;

      nixosModules.default =
        { lib, pkgs, ... }:
        {
          imports = [ ./nixos-module ];
          services.sconce.package = lib.mkDefault self.packages.${system pkgs}.sconce;
        };

      checks = each (
        pkgs:
        let
          package = self.packages.${system pkgs}.sconce;
        in
        {
          inherit package;
          inherit (package) clippy fmt;
          proxy = self.packages.${system pkgs}.sconce-proxy;
          module = import ./tests/nix/check.nix {
            inherit lib pkgs;
            module = self.nixosModules.default;
          };
          vm = pkgs.testers.runNixOSTest (
            import ./nixos-module/test.nix { module = self.nixosModules.default; }
          );
        }
      );

      devShells = each (pkgs: {
        default = pkgs.mkShell {
          packages = [
            pkgs.cargo
            pkgs.rustc
            pkgs.clippy
            pkgs.rustfmt
            pkgs.rust-analyzer
            pkgs.nixfmt
          ];
        };
      });

      formatter = each (pkgs: pkgs.nixfmt-tree);
    };
}
