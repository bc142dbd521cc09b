# `services.sconce`: the unit of dist/systemd as NixOS writes it, and a configuration that was checked.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  toml = pkgs.formats.toml { };
  settings = import ./settings.nix {
    inherit lib;
    freeformType = toml.type;
  };
  hub = import ./hub.nix;
  unit = import ./unit.nix { inherit lib; };
  shipped = unit ../dist/systemd/sconce.service;
  shippedSocket = unit ../dist/systemd/sconce.socket;
  withGpu = unit ../dist/systemd/sconce.service.d/gpu.conf;
  withoutNetwork = unit ../dist/systemd/sconce.service.d/private-network.conf;

  cfg = config.services.sconce;
  options =
    defaultPackage:
    import ./options.nix {
      inherit lib settings defaultPackage;
    };
  # Each enabled daemon by the name of its unit.
  daemons =
    lib.optionalAttrs cfg.enable { sconce = cfg; }
    // lib.mapAttrs' (name: lib.nameValuePair "sconce-${name}") (
      lib.filterAttrs (_: it: it.enable) cfg.instances
    );
  each = f: lib.mapAttrs f daemons;
  all = f: lib.concatLists (lib.mapAttrsToList f daemons);

  # What a daemon's configuration says.
  written =
    it:
    lib.recursiveUpdate (lib.optionalAttrs (it.models != { }) {
      models = lib.mapAttrs (_: source: {
        backend = "candle";
        candle = { inherit source; };
      }) it.models;
    }) (settings.written it.settings);

  # A file that the service does not name directly: the unit stays the same, and a reload takes the new one up.
  configFile =
    name: it:
    let
      file = toml.generate "${name}.toml" (written it);
      native = pkgs.stdenv.buildPlatform.system == pkgs.stdenv.hostPlatform.system;
    in
    if it.checkConfig && native && !(it.package.needsDriver or false) then
      pkgs.runCommand "${name}-checked.toml" { inherit file; } ''
        cp $file $out
        ${lib.getExe it.package} check-config --config $file
      ''
    else
      file;

  # What a reload does not take up, as src/server/reload.rs has it.
  fixed =
    it:
    let
      said = written it;
    in
    {
      api_prefix = said.api_prefix or null;
      server = said.server or { };
      cors = said.cors or { };
      log = removeAttrs (said.log or { }) [ "level" ];
    };

  listen =
    it: (written it).server.listen or settings.schema.properties.server.properties.listen.default;
  unixPath = address: builtins.match "unix:(.*)" address;
  tcp = address: builtins.match "(.*):([0-9]+)" address;
  isTcp = address: unixPath address == null && tcp address != null;
  host = address: builtins.elemAt (tcp address) 0;
  port = address: builtins.fromJSON (builtins.elemAt (tcp address) 1);
  isLocal = address: builtins.match "127[.].*|localhost|\\[::1]" (host address) != null;
  isNumeric = address: builtins.match "[0-9.]+|\\[[0-9a-fA-F:.]+]" (host address) != null;
  ports =
    it:
    lib.unique (map port (builtins.filter (address: isTcp address && !isLocal address) (listen it)));

  # Where each local model is; its own id where nothing else is said.
  sources =
    it:
    let
      said = written it;
      own = if said ? models then said.models else { ${said.model_id or ""} = said; };
    in
    lib.mapAttrsToList (id: model: model.candle.source or said.candle.source or id) (
      lib.filterAttrs (
        _: model:
        # An adapter is part of its base.
        !(model ? candle.base)
        && builtins.elem (model.backend or said.backend or null) [
          "candle"
          "transformers"
        ]
      ) own
    );
  connects =
    it:
    let
      said = written it;
      backends = map (model: model.backend or null) ([ said ] ++ builtins.attrValues (said.models or { }));
    in
    it.environmentFile != null
    || builtins.any hub.isId (sources it)
    || builtins.any (backend: builtins.elem backend [ "proxy" "vllm_proxy" ]) backends;
  networkless =
    it:
    it.socketActivation.enable
    && (
      if it.socketActivation.privateNetwork == null then
        !connects it
      else
        it.socketActivation.privateNetwork
    );

  credentials =
    it:
    builtins.genList (index: "api-keys.${toString (index + 1)}:${builtins.elemAt it.apiKeyFiles index}") (
      builtins.length it.apiKeyFiles
    )
    ++ lib.optional (it.hfTokenFile != null) "hf-token:${it.hfTokenFile}"
    ++ lib.optional (it.upstreamApiKeyFile != null) "upstream-api-key:${it.upstreamApiKeyFile}"
    ++ lib.mapAttrsToList (name: file: "upstream-api-key.${name}:${file}") it.upstreamApiKeyFiles;

  # What it and its models say under `candle`.
  candle =
    it:
    let
      said = written it;
    in
    map (model: model.candle or { }) ([ said ] ++ builtins.attrValues (said.models or { }));

  # Models that ProtectHome= and PrivateTmp= would hide.
  hidden =
    it:
    let
      sources = lib.concatMap (said: [ (said.source or null) (said.adapter or null) ]) (candle it);
    in
    lib.unique (
      builtins.filter (
        source:
        builtins.isString source
        && builtins.match "(/home|/root|/run/user|/tmp|/var/tmp)/.*" source != null
      ) sources
    );

  # The shipped unit calls everything `sconce`; a daemon's own name takes its place.
  own =
    name:
    let
      rename =
        value:
        if builtins.isList value then
          map rename value
        else
          builtins.replaceStrings [ "sconce" ] [ name ] value;
    in
    lib.mapAttrs (
      directive: value:
      if
        builtins.elem directive [
          "User"
          "RuntimeDirectory"
          "StateDirectory"
          "CacheDirectory"
          "WorkingDirectory"
          "Environment"
          "ImportCredential"
        ]
      then
        rename value
      else
        value
    ) shipped.Service;

  service = name: it: {
    description = shipped.Unit.Description;
    documentation = lib.splitString " " shipped.Unit.Documentation;
    wants = lib.splitString " " shipped.Unit.Wants;
    after = lib.splitString " " shipped.Unit.After ++ lib.optional (networkless it) "${name}.socket";
    requires = lib.optional (networkless it) "${name}.socket";
    unitConfig = removeAttrs shipped.Unit [
      "Description"
      "Documentation"
      "Wants"
      "After"
    ];
    wantedBy = lib.optional (!it.socketActivation.enable) shipped.Install.WantedBy;
    # The descriptor store, which keeps the listening sockets, outlives a restart but not a stop and a start.
    stopIfChanged = false;
    reloadTriggers = [ (configFile name it) ];
    restartTriggers = [ (builtins.hashString "sha256" (builtins.toJSON (fixed it))) ];
    # All defaults, so that a machine's own settings need no force.
    serviceConfig =
      lib.mapAttrs (_: lib.mkDefault) (
        removeAttrs (own name) [ "ExecStart" ]
        // lib.optionalAttrs (networkless it) withoutNetwork.Service
        // lib.optionalAttrs it.gpu withGpu.Service
      )
      // {
        ExecStart = "${lib.getExe it.package} --config /etc/sconce/${name}.toml";
      }
      // lib.optionalAttrs (credentials it != [ ]) { LoadCredential = credentials it; }
      // lib.optionalAttrs (it.environmentFile != null) { EnvironmentFile = it.environmentFile; }
      // lib.optionalAttrs (hidden it != [ ]) { BindReadOnlyPaths = hidden it; };
  };

  socket = _: it: {
    description = shippedSocket.Unit.Description;
    wantedBy = lib.toList shippedSocket.Install.WantedBy;
    listenStreams = map (
      address: if unixPath address == null then address else builtins.head (unixPath address)
    ) (listen it);
    # Without a name of its own a socket speaks what an address of `server.listen` would.
    socketConfig =
      lib.mapAttrs (_: lib.mkDefault) (
        removeAttrs shippedSocket.Socket [
          "ListenStream"
          "FileDescriptorName"
        ]
      )
      // lib.optionalAttrs ((written it).server ? unix_socket_mode) {
        SocketMode = (written it).server.unix_socket_mode;
      };
  };

  assertions =
    name: it:
    let
      option =
        if name == "sconce" then
          "services.sconce"
        else
          "services.sconce.instances.${lib.removePrefix "sconce-" name}";
      given = as: file: { inherit as file; };
      files =
        map (given "apiKeyFiles") it.apiKeyFiles
        ++ lib.mapAttrsToList (of: given "upstreamApiKeyFiles.${of}") it.upstreamApiKeyFiles
        ++ [
          (given "upstreamApiKeyFile" it.upstreamApiKeyFile)
          (given "hfTokenFile" it.hfTokenFile)
          (given "environmentFile" it.environmentFile)
        ];
      stored = builtins.filter ({ file, ... }: file != null && settings.inStore file) files;
      open = settings.secrets (settings.written it.settings);
      named = builtins.filter (address: isTcp address && !isNumeric address) (listen it);
    in
    [
      {
        assertion = builtins.match "[A-Za-z0-9_-]+" name != null;
        message = "${option}: an instance's name is made of letters, digits, - and _, because it names a unit and its directories.";
      }
      {
        assertion = open == [ ];
        message = "${option}.settings: ${toString open} would be in the Nix store, which everybody can read; use apiKeyFiles, upstreamApiKeyFiles, or the path of a file outside, as agenix and sops-nix have them.";
      }
      {
        assertion = it.gpu || builtins.all (said: !lib.hasPrefix "cuda" (said.device or "cpu")) (candle it);
        message = "${option}.settings: candle.device is a GPU, which the unit hides; set ${option}.gpu = true.";
      }
      {
        assertion = !it.openFirewall || ports it != [ ];
        message = "${option}.openFirewall: nothing listens for others; set settings.server.listen, such as [ \"0.0.0.0:8000\" ].";
      }
      {
        assertion = !it.socketActivation.enable || named == [ ];
        message = "${option}.socketActivation: systemd listens on numbers, not on ${toString named}; write 127.0.0.1 or [::1] in settings.server.listen.";
      }
      {
        assertion = (it.socketActivation.privateNetwork != true) || it.socketActivation.enable;
        message = "${option}.socketActivation.privateNetwork: without socketActivation.enable nobody could reach the daemon.";
      }
    ]
    ++ map (
      { file, as }:
      {
        assertion = false;
        message = "${option}.${as}: ${baseNameOf (toString file)} is in the Nix store, which everybody can read; give the path of a file outside as a string, as agenix and sops-nix have it.";
      }
    ) stored;

  # Two daemons on one address: the second would not start.
  addresses = all (name: it: map (address: { inherit name address; }) (listen it));
  clashes = lib.unique (
    lib.concatMap (
      one:
      map (two: "${one.name} and ${two.name} both listen on ${one.address}") (
        builtins.filter (two: two.address == one.address && one.name < two.name) addresses
      )
    ) addresses
  );
in
{
  options.services.sconce =
    options { }
    // {
      enable = lib.mkEnableOption "sconce, an OpenAI-compatible API for language models";
      instances = mkOption {
        type = types.attrsOf (
          types.submodule {
            options = options { default = cfg.package; } // {
              enable = mkOption {
                type = types.bool;
                default = true;
                description = "Whether this one runs.";
              };
            };
          }
        );
        default = { };
        description = ''
          More daemons, each with the options of `services.sconce`. The unit of one is `sconce-<name>`, and so are its user
          and its directories; it does not need `services.sconce.enable`.
        '';
      };
    };

  config = lib.mkIf (daemons != { }) {
    assertions =
      all assertions
      ++ map (clash: {
        assertion = false;
        message = "services.sconce: ${clash}; give one another settings.server.listen.";
      }) clashes;
    systemd.services = each service;
    systemd.sockets = lib.mapAttrs socket (lib.filterAttrs (_: it: it.socketActivation.enable) daemons);
    environment.etc = lib.mapAttrs' (
      name: it: lib.nameValuePair "sconce/${name}.toml" { source = configFile name it; }
    ) daemons;
    environment.systemPackages = lib.unique (lib.mapAttrsToList (_: it: it.package) daemons);
    networking.firewall.allowedTCPPorts = all (_: it: lib.optionals it.openFirewall (ports it));
    users.users = lib.mapAttrs (name: _: {
      isSystemUser = true;
      group = name;
    }) (lib.filterAttrs (_: it: it.staticUser) daemons);
    users.groups = lib.mapAttrs (_: _: { }) (lib.filterAttrs (_: it: it.staticUser) daemons);
  };
}
