// In place of a stock client of OpenShell: one method, described by hand. No registry has such a
// TypeScript.
import { create, createFileRegistry } from "@bufbuild/protobuf";
import { FieldDescriptorProto_Label as Label, FieldDescriptorProto_Type as Type } from "@bufbuild/protobuf/wkt";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

const registry = createFileRegistry(
  create(FileDescriptorSetSchema, {
    file: [
      {
        name: "openshell.proto",
        package: "openshell.v1",
        syntax: "proto3",
        messageType: [
          { name: "ListSandboxesRequest" },
          { name: "Sandbox" },
          {
            name: "ListSandboxesResponse",
            field: [
              {
                name: "sandboxes",
                jsonName: "sandboxes",
                number: 1,
                label: Label.REPEATED,
                type: Type.MESSAGE,
                typeName: ".openshell.v1.Sandbox",
              },
            ],
          },
        ],
        service: [
          {
            name: "OpenShell",
            method: [
              {
                name: "ListSandboxes",
                inputType: ".openshell.v1.ListSandboxesRequest",
                outputType: ".openshell.v1.ListSandboxesResponse",
              },
            ],
          },
        ],
      },
    ],
  }),
);

/** `openshell.v1.OpenShell`. */
export const OpenShell = registry.getService("openshell.v1.OpenShell")!;
