# Reads a unit file: { Section.Directive = value; }, a list where a directive is there more than once.
{ lib }:
file:
let
  lines = builtins.filter (line: line != "" && !(lib.hasPrefix "#" line)) (
    lib.splitString "\n" (builtins.readFile file)
  );
  step =
    { section, unit }:
    line:
    let
      header = builtins.match "\\[(.*)]" line;
      pair = builtins.match "([A-Za-z0-9]+)=(.*)" line;
      name = builtins.elemAt pair 0;
      value = builtins.elemAt pair 1;
      before = unit.${section}.${name} or null;
    in
    if header != null then
      {
        section = builtins.head header;
        inherit unit;
      }
    else
      assert lib.assertMsg (pair != null) "${toString file}: '${line}' is no directive";
      {
        inherit section;
        unit = unit // {
          ${section} = (unit.${section} or { }) // {
            ${name} = if before == null then value else lib.toList before ++ [ value ];
          };
        };
      };
in
(builtins.foldl' step {
  section = null;
  unit = { };
} lines).unit
