// Browser is a person in front of a browser: it drives Debian's headless
// Chromium (packages chromium and chromium-driver) through WordPress, for
// hack/scenarios.
//
//	browser first SITE DIR          a WordPress that knows no database shows its setup page
//	browser install SITE DIR        fills in the installation form, logs in, sees the dashboard, writes a post
//	browser read SITE DIR           the post is there, and logging in works
//
// Each step leaves a screenshot in DIR. It prints PASS or FAIL a line.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What the person says.
const (
	title    = "Harbour"
	account  = "tux"
	password = "Long.Pass-word7.Harbour"
	heading  = "High water at noon"
	text     = "Written before the storm."
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: browser first|install|read SITE DIR")
		os.Exit(2)
	}
	steps, ok := scenarios[os.Args[1]]
	if !ok {
		fmt.Fprintf(os.Stderr, "browser: %q is not first, install or read\n", os.Args[1])
		os.Exit(2)
	}
	b, err := open()
	if err != nil {
		fmt.Fprintln(os.Stderr, "browser:", err)
		os.Exit(1)
	}
	p := &person{browser: b, site: strings.TrimSuffix(os.Args[2], "/"), dir: os.Args[3], word: os.Args[1]}
	code := 0
	for _, s := range steps {
		err := s.do(p)
		if err := p.picture(s.what); err != nil {
			fmt.Fprintln(os.Stderr, "browser:", err)
		}
		if err != nil {
			fmt.Printf("FAIL browser: %s: %v\n", s.what, err)
			code = 1
			break
		}
		fmt.Printf("PASS browser: %s\n", s.what)
	}
	b.close()
	os.Exit(code)
}

// A person sits in front of the site.
type person struct {
	*browser
	site, dir, word string
	pictures        int
}

type step struct {
	what string
	do   func(p *person) error
}

var scenarios = map[string][]step{
	"first": {{"the setup page shows", (*person).first}},
	"install": {
		{"the setup page shows", (*person).setup},
		{"the installation form is taken", (*person).install},
		{"the account logs in and sees the dashboard", (*person).login},
		{"a post is written and published", (*person).write},
		{"the post is read", (*person).read},
	},
	"read": {
		{"the post written before is still there", (*person).read},
		{"the account logs in and sees the dashboard", (*person).login},
	},
}

// picture keeps what is on the screen.
func (p *person) picture(what string) error {
	b, err := p.screenshot()
	if err != nil {
		return err
	}
	p.pictures++
	name := fmt.Sprintf("%s-%d-%s.png", p.word, p.pictures, strings.ReplaceAll(what, " ", "-"))
	return os.WriteFile(filepath.Join(p.dir, name), b, 0o644)
}

// first is what WordPress shows before it knows a database.
func (p *person) first() error {
	if err := p.visit(p.site + "/"); err != nil {
		return err
	}
	if e, err := p.find("#language-continue"); err == nil {
		if err := p.click(e); err != nil {
			return err
		}
	}
	return p.shows("Before getting started")
}

func (p *person) setup() error {
	if err := p.visit(p.site + "/"); err != nil {
		return err
	}
	// A choice of languages comes first where there are any.
	if e, err := p.find("#language-continue"); err == nil {
		if err := p.click(e); err != nil {
			return err
		}
	}
	_, err := p.wait("#weblog_title")
	return err
}

func (p *person) install() error {
	for _, f := range []struct{ field, value string }{
		{"#weblog_title", title}, {"#user_login", account}, {"#pass1", password}, {"#admin_email", "tux@example.com"},
	} {
		e, err := p.wait(f.field)
		if err != nil {
			return err
		}
		if err := p.fill(e, f.value); err != nil {
			return fmt.Errorf("field %s: %w", f.field, err)
		}
	}
	// It asks once more when it finds the password weak.
	if e, err := p.find(".pw-weak input"); err == nil {
		_ = p.click(e)
	}
	e, err := p.wait("#submit")
	if err != nil {
		return err
	}
	if err := p.click(e); err != nil {
		return err
	}
	return p.shows("Success!")
}

func (p *person) login() error {
	if err := p.visit(p.site + "/wp-login.php"); err != nil {
		return err
	}
	// The page puts the focus on the first field a fifth of a second after it came.
	time.Sleep(time.Second)
	for _, f := range []struct{ field, value string }{{"#user_login", account}, {"#user_pass", password}} {
		e, err := p.wait(f.field)
		if err != nil {
			return err
		}
		if err := p.fill(e, f.value); err != nil {
			return err
		}
	}
	e, err := p.wait("#wp-submit")
	if err != nil {
		return err
	}
	if err := p.click(e); err != nil {
		return err
	}
	if _, err := p.wait("#wpadminbar"); err != nil {
		return err
	}
	return p.shows("Dashboard")
}

// write uses the editor of the page, by its own program's words.
func (p *person) write() error {
	if err := p.visit(p.site + "/wp-admin/post-new.php"); err != nil {
		return err
	}
	ready := `return !!(window.wp && wp.data && wp.data.select("core/editor") && wp.data.select("core/editor").getCurrentPostId())`
	if err := p.until(ready); err != nil {
		return err
	}
	err := p.script(fmt.Sprintf(`wp.data.dispatch("core/editor").editPost({title: %q, content: %q, status: "publish"});
wp.data.dispatch("core/editor").savePost(); return true`, heading, "<!-- wp:paragraph --><p>"+text+"</p><!-- /wp:paragraph -->"), nil)
	if err != nil {
		return err
	}
	return p.until(`return wp.data.select("core/editor").isCurrentPostPublished() && !wp.data.select("core/editor").isSavingPost()`)
}

func (p *person) read() error {
	if err := p.visit(p.site + "/"); err != nil {
		return err
	}
	if err := p.shows(heading); err != nil {
		return err
	}
	var link string
	if err := p.script(fmt.Sprintf(`const a = [...document.querySelectorAll("a")].find(a => a.textContent.includes(%q)); return a ? a.href : ""`, heading), &link); err != nil {
		return err
	}
	if link == "" {
		return errors.New("the post has no link")
	}
	if err := p.visit(link); err != nil {
		return err
	}
	return p.shows(text)
}

// shows waits until the page has a text.
func (p *person) shows(text string) error {
	err := p.until(fmt.Sprintf(`return !!document.body && document.body.innerText.includes(%q)`, text))
	if err != nil {
		return fmt.Errorf("the page does not show %q: %w", text, err)
	}
	return nil
}

// patience is how long a page may take.
const patience = 60 * time.Second

// until waits for a script to say true.
func (p *person) until(script string) error {
	var yes bool
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = p.script(script, &yes); err == nil && yes {
			return nil
		}
	}
	return errors.Join(errors.New("it does not come"), err)
}

// wait is find with patience.
func (p *person) wait(css string) (string, error) {
	var e string
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if e, err = p.find(css); err == nil {
			return e, nil
		}
	}
	return "", fmt.Errorf("no %s on the page: %w", css, err)
}
