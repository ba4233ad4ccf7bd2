// Renders a chart where no helm is: text/template and Sprig, which is what helm itself is made of, and the functions of helm
// that the chart calls. It reads the same files and gives back values and texts as one JSON object.
// Invariant: it is a stand-in for tests. It talks to no cluster, fetches nothing, and knows no subcharts; values are held
// against values.schema.json by whoever calls it.
// Next room: test/support/helm.ts, which builds and calls it.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type object = map[string]interface{}

type answer struct {
	Values object            `json:"values"`
	Files  map[string]string `json:"files"`
	Error  string            `json:"error"`
}

// helm-render CHART RELEASE NAMESPACE [VALUES…]
func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "helm-render CHART RELEASE NAMESPACE [VALUES…]")
		os.Exit(2)
	}
	told, err := render(os.Args[1], os.Args[2], os.Args[3], os.Args[4:])
	if err != nil {
		told.Error = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(told)
}

func render(folder, release, namespace string, files []string) (answer, error) {
	told := answer{Files: map[string]string{}}
	values := object{}
	for _, file := range append([]string{filepath.Join(folder, "values.yaml")}, files...) {
		more := object{}
		if err := read(file, &more); err != nil {
			return told, err
		}
		merge(values, more)
	}
	told.Values = values
	chart := object{}
	if err := read(filepath.Join(folder, "Chart.yaml"), &chart); err != nil {
		return told, err
	}
	// Templates name the members of a chart with a capital: .Chart.AppVersion.
	named := object{}
	for key, value := range chart {
		named[strings.ToUpper(key[:1])+key[1:]] = value
	}
	root := object{
		"Values":       values,
		"Chart":        named,
		"Release":      object{"Name": release, "Namespace": namespace, "Service": "Helm", "Revision": 1, "IsInstall": true, "IsUpgrade": false},
		"Capabilities": object{"KubeVersion": object{"Version": "v1.30.0", "Major": "1", "Minor": "30"}},
	}
	all := template.New("chart").Option("missingkey=zero")
	all.Funcs(functions(all))
	paths, _ := filepath.Glob(filepath.Join(folder, "templates", "*"))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return told, err
		}
		if _, err := all.New(nameOf(path)).Parse(string(text)); err != nil {
			return told, err
		}
	}
	for _, path := range paths {
		if strings.HasPrefix(filepath.Base(path), "_") {
			continue
		}
		root["Template"] = object{"Name": nameOf(path), "BasePath": "errand/templates"}
		var text bytes.Buffer
		if err := all.ExecuteTemplate(&text, nameOf(path), root); err != nil {
			return told, err
		}
		told.Files[filepath.Base(path)] = strings.ReplaceAll(text.String(), "<no value>", "")
	}
	return told, nil
}

func nameOf(path string) string { return "errand/templates/" + filepath.Base(path) }

func read(file string, into *object) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(file), err)
	}
	return nil
}

// Objects are merged member by member, anything else is replaced, and null takes a member away.
func merge(into, more object) {
	for key, value := range more {
		mine, isMine := into[key].(object)
		theirs, isTheirs := value.(object)
		switch {
		case value == nil:
			delete(into, key)
		case isMine && isTheirs:
			merge(mine, theirs)
		default:
			into[key] = value
		}
	}
}

// What helm adds to Sprig, and what it takes away.
func functions(all *template.Template) template.FuncMap {
	known := sprig.TxtFuncMap()
	delete(known, "env")
	delete(known, "expandenv")
	known["include"] = func(name string, data interface{}) (string, error) {
		var text bytes.Buffer
		err := all.ExecuteTemplate(&text, name, data)
		return text.String(), err
	}
	known["toYaml"] = func(value interface{}) string {
		text, err := yaml.Marshal(value)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(text), "\n")
	}
	known["fromYaml"] = func(text string) object {
		value := object{}
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			value["Error"] = err.Error()
		}
		return value
	}
	return known
}
