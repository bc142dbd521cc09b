# Evaluates NixOS modules with the module system alone, against stand-ins for the options of NixOS that a service sets, and
# writes its units as NixOS would: { config, failed, units, firewall }, where `failed` are the messages of assertions that
# do not hold.
{
  lib,
  pkgs,
  modules,
}:
let
  inherit (lib) types mkOption;
  option =
    type: default:
    mkOption {
      inherit type default;
    };
  any = option (types.attrsOf types.anything) { };
  strings = option (types.listOf types.str) [ ];
  # As NixOS has it: a scalar, or a list whose definitions are concatenated.
  scalar = types.oneOf [
    types.bool
    types.int
    types.str
    types.path
    types.package
  ];
  section = option (types.attrsOf (types.either (types.nullOr scalar) (types.listOf scalar))) { };
  unit = {
    description = option types.str "";
    documentation = strings;
    unitConfig = section;
  }
  // lib.genAttrs [
    "after"
    "before"
    "wants"
    "requires"
    "wantedBy"
  ] (_: strings);
  triggers = option (types.listOf types.unspecified) [ ];
  service = types.submodule {
    options = unit // {
      serviceConfig = section;
      stopIfChanged = option types.bool true;
      restartTriggers = triggers;
      reloadTriggers = triggers;
    };
  };
  socket = types.submodule {
    options = unit // {
      socketConfig = section;
      listenStreams = strings;
    };
  };
  nixos = {
    options = {
      assertions = triggers;
      systemd = {
        services = option (types.attrsOf service) { };
        sockets = option (types.attrsOf socket) { };
        tmpfiles.rules = strings;
      };
      users = {
        users = any;
        groups = any;
      };
      networking.firewall.allowedTCPPorts = option (types.listOf types.port) [ ];
      specialisation = any;
      environment = {
        systemPackages = option (types.listOf types.anything) [ ];
        etc = any;
      };
    };
    config._module.args = { inherit pkgs; };
  };
  inherit (lib.evalModules { modules = [ nixos ] ++ modules; }) config;

  text = value: if builtins.isBool value then lib.boolToString value else toString value;
  lines =
    directives:
    lib.concatStrings (
      lib.mapAttrsToList (
        name: value:
        lib.concatMapStrings (one: "${name}=${text one}\n") (
          lib.filter (one: one != null) (lib.toList value)
        )
      ) directives
    );
  present = lib.filterAttrs (_: value: value != "");
  words = builtins.concatStringsSep " ";
  render =
    unit: name: body:
    "[Unit]\n${
      lines (
        present {
          Description = unit.description;
          Documentation = words unit.documentation;
          After = words unit.after;
          Before = words unit.before;
          Wants = words unit.wants;
          Requires = words unit.requires;
        }
        // unit.unitConfig
      )
    }\n[${name}]\n${body}${
      lib.optionalString (unit.wantedBy != [ ]) "\n[Install]\nWantedBy=${words unit.wantedBy}\n"
    }";
in
{
  inherit config;
  failed = map (it: it.message) (builtins.filter (it: !it.assertion) config.assertions);
  firewall = config.networking.firewall.allowedTCPPorts;
  units =
    lib.mapAttrs' (
      name: it: lib.nameValuePair "${name}.service" (render it "Service" (lines it.serviceConfig))
    ) config.systemd.services
    // lib.mapAttrs' (
      name: it:
      lib.nameValuePair "${name}.socket" (
        render it "Socket" (
          lines it.socketConfig + lib.concatMapStrings (one: "ListenStream=${one}\n") it.listenStreams
        )
      )
    ) config.systemd.sockets;
}
