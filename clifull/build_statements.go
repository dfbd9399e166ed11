package clifull

import (
	"fmt"
	"strconv"

	"hull/build"
)

// setStatements reads what shall be said about the image: --sbom into files,
// --attest and its short forms beside it.
func (b *buildFlags) setStatements(o *build.Options) error {
	specs := b.attest
	switch b.sbom {
	case "", "spdx":
	case "false":
		o.SBOM = build.SBOM{}
	case "true":
		specs = append(specs, "type=sbom")
	default:
		return fmt.Errorf("--sbom %s: there are spdx, true and false; packages are found without a scanner", b.sbom)
	}
	if b.sbom == "spdx" && o.SBOM == (build.SBOM{}) {
		o.SBOM.ImageOutput = "/usr/share/sbom/image.spdx.json"
	}
	switch on, err := strconv.ParseBool(b.provenance); {
	case b.provenance == "":
	case err == nil && on:
		specs = append(specs, "type=provenance")
	case err == nil:
		specs = append(specs, "type=provenance,disabled=true")
	case b.provenance == "min", b.provenance == "max":
		specs = append(specs, "type=provenance,mode="+b.provenance)
	default:
		specs = append(specs, "type=provenance,"+b.provenance)
	}
	for _, spec := range specs {
		if err := o.Attest.ParseAttest(spec); err != nil {
			return err
		}
	}
	return nil
}
