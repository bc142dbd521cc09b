{ lib, system }:
let
  # host tools, impure on purpose: sandbox = false
  path = "/usr/local/bin:/usr/bin:/bin";
  opaque = name: {
    inherit name; pname = name; type = "derivation"; outPath = builtins.toFile "stub-${name}" "stand-in for nixpkgs' ${name}\n";
    stub = true; meta.mainProgram = name; outputs = [ "out" "dev" ]; dev = opaque "${name}-dev"; lib = opaque "${name}-lib";
  };
  # names of nixpkgs attributes the project may use; an unknown one is an evaluation error, as in nixpkgs
  known = lib.genAttrs (builtins.filter (l: l != "") (lib.splitString "\n" (builtins.readFile ./known-attrs.txt))) opaque;
  hostPlatform = lib.systems.elaborate system;
  mkDrv =
    attrs:
    lib.extendDerivation true (attrs.passthru or { } // { meta = attrs.meta or { }; inherit (attrs) pname version; }) (derivation ({
      name = attrs.name or "${attrs.pname}-${attrs.version}"; inherit system; builder = "/bin/bash"; PATH = path;
      # The last line keeps the shell from becoming the last command: coreutils close their output as they end, and Nix
      # kills a builder whose output is closed.
      args = [ "-euo" "pipefail" "-c" "${attrs.script}\nexit" ];
    } // lib.filterAttrs (n: v: !(builtins.elem n [ "script" "meta" "passthru" "pname" "version" "name" "cargoLock" "nativeBuildInputs" "buildInputs" "nativeCheckInputs" "nativeInstallCheckInputs" ]) && !(builtins.isFunction v) && !(builtins.isBool v && !v)) attrs));
  buildRustPackage =
    argsOrFn:
    let
      args = if builtins.isFunction argsOrFn then lib.fix argsOrFn else argsOrFn;
      lock = builtins.fromTOML (builtins.unsafeDiscardStringContext (builtins.readFile args.cargoLock.lockFile));
      # what nixpkgs' importCargoLock requires, checked here at evaluation time
      bad = builtins.filter (p: p ? source && !(lib.hasPrefix "git+" p.source) && !(p ? checksum)) lock.package;
      git = builtins.filter (p: lib.hasPrefix "git+" (p.source or "")) lock.package;
      features = "${lib.optionalString (args.buildNoDefaultFeatures or false) "--no-default-features"} ${lib.optionalString (args ? buildFeatures) "--features=${lib.concatStringsSep "," args.buildFeatures}"}";
      missing = builtins.filter (p: !((args.cargoLock.outputHashes or { }) ? "${p.name}-${p.version}")) git;
    in
    assert lib.assertMsg (bad == [ ]) "Cargo.lock: no checksum for ${toString (map (p: p.name) bad)}";
    assert lib.assertMsg (missing == [ ] || args.cargoLock.allowBuiltinFetchGit or false) "cargoLock.outputHashes lacks ${toString (map (p: "${p.name}-${p.version}") missing)}";
    mkDrv (args // {
      passthru = (args.passthru or { }) // { inherit (args) src; cargoPackages = builtins.length lock.package; };
      script = ''
        user=$(getent passwd "$(id -u)" | cut -d: -f6)
        export HOME=$NIX_BUILD_TOP CARGO_HOME=$user/.cargo RUSTUP_HOME=$user/.rustup
        export PATH=$CARGO_HOME/bin:$PATH CARGO_TARGET_DIR=$NIX_BUILD_TOP/target
        cp -r "$src" source; chmod -R u+w source; cd source/''${buildAndTestSubdir:-.}
        echo "src holds: $(find . -type f | sort | tr '\n' ' ')"
        ${args.postPatch or ""}
        ${args.preBuild or ""}
        cargo build --release --frozen ${features} ${toString (args.cargoBuildFlags or [ ])}
        ${lib.optionalString (args.doCheck or true) "cargo test --release --frozen ${features} ${toString (args.cargoTestFlags or [ ])} -- ${toString (args.checkFlags or [ ])}"}
        mkdir -p $out/bin
        find $CARGO_TARGET_DIR/release -maxdepth 1 -type f -executable ! -name '*.so' -exec install -m755 -t $out/bin {} +
        ${args.postInstall or ""}
        ${lib.optionalString (args ? meta && args.meta ? mainProgram) "test -x $out/bin/${args.meta.mainProgram} || { echo meta.mainProgram ${args.meta.mainProgram or ""} is not in $out/bin; exit 1; }"}
      '';
    });
  pkgs = known // {
    inherit lib pkgs system; inherit (pkgs.stdenv) hostPlatform;
    stdenv = { inherit hostPlatform; buildPlatform = hostPlatform; targetPlatform = hostPlatform; isLinux = true; mkDerivation = a: mkDrv ((if builtins.isFunction a then lib.fix a else a) // { script = a.buildCommand or "touch $out"; }); };
    rustPlatform = { inherit buildRustPackage; };
    callPackage = lib.callPackageWith pkgs;
    mkShell = _: mkDrv { name = "shell"; script = "touch $out"; pname = "shell"; version = "0"; };
    cudaPackages = lib.genAttrs [ "cuda_cccl" "cuda_cudart" "cuda_nvcc" "cuda_nvrtc" "libcublas" "libcurand" ] opaque;
    writeText = n: t: builtins.toFile n t;
    writeShellApplication = { name, text, ... }: mkDrv { inherit name; pname = name; version = "0"; text = "#!/bin/bash\nset -euo pipefail\n${text}"; passAsFile = [ "text" ]; script = "mkdir -p $out/bin; install -m755 $textPath $out/bin/${name}"; meta.mainProgram = name; };
    runCommand = name: env: cmd: mkDrv (env // { inherit name; pname = name; version = "0"; script = cmd; });
    # Its machines are evaluated; it cannot be run.
    testers.runNixOSTest = t: let
      machines = lib.mapAttrs (_: node: import ./nixos.nix { inherit lib pkgs; modules = [ node ]; }) t.nodes;
      failed = lib.concatMap (m: m.failed) (lib.attrValues machines);
    in assert lib.assertMsg (failed == [ ]) (toString failed); mkDrv { pname = "vm-test-${t.name}"; version = "0"; passthru = { inherit (t) testScript; }; units = builtins.toJSON (lib.mapAttrs (_: m: m.units) machines); script = "echo 'a test in a virtual machine needs KVM and NixOS' >&2; exit 1"; };
    python3 = opaque "python3" // { withPackages = _: opaque "python3-env"; };
    formats = {
      json = _: { type = lib.types.attrsOf lib.types.anything; generate = n: v: builtins.toFile n (builtins.toJSON v); };
      toml = _: { type = let t = lib.types; v = t.nullOr (t.oneOf [ t.bool t.int t.float t.str t.path (t.attrsOf v) (t.listOf v) ]) // { description = "TOML value"; }; in v;
        generate = n: v: mkDrv { name = n; pname = n; version = "0"; value = builtins.toJSON v; passAsFile = [ "value" ]; script = "python3 ${./json2toml.py} $valuePath > $out"; }; };
    };
  };
in pkgs
